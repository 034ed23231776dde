"""The token view on Inject S* into CONDITIONING: chips, chunks, warnings before the queue is pressed, fixes."""

import pytest
import torch

from f2d_core.s_star import SStar, save_s_star

CHIPS = ".f2d-tokens .f2d-chip"
PROMPT = ".f2d-tokens"


@pytest.fixture(scope="session")
def anna(base):
    """A saved person with the marker "anna" and three words."""
    person = SStar(torch.zeros(3, 768), name="Anna", marker="anna", injection="token")
    return save_s_star(person, base / "models" / "face2diffusion" / "identities" / "anna.safetensors").name


def build(page, text, anna=None, **more):
    """Two people: S* of a photo, and a saved one where there is a file."""
    nodes = {"encode": ("F2DEncodeFace", 20, 20, {}), "inject": ("F2DInject", 420, 20, {"text": text}), **more}
    links = [("encode", 0, "inject", "s_star")]
    if anna:
        nodes["load"] = ("F2DLoadSStar", 20, 620, {"file": anna})
        links.append(("load", 0, "inject", "s_star_2"))
    return page.build(nodes, links)


def wait_for_text(page, text):
    page.wait(f"return document.querySelector('{PROMPT}')?.innerText.includes({text!r})")


def write(page, text):
    """Type a prompt as the user would."""
    page.click("textarea >> nth=0")
    page.press("Control+A")
    page.type(text)


def test_every_person_is_a_chip_of_their_own_colour(page, anna):
    build(page, "a photo of (S*:1.3) and anna", anna)

    page.wait(f"return document.querySelectorAll('{CHIPS}').length === 5")  # two words and three
    colours = page.evaluate(
        f"return [...document.querySelectorAll('{CHIPS}')].map((chip) => getComputedStyle(chip).backgroundColor);"
    )
    assert len(set(colours[:2])) == 1 and len(set(colours[2:])) == 1 and colours[0] != colours[2]
    assert "×1.3" in page.text(CHIPS)
    assert page.text(f"{CHIPS} >> nth=2") == "anna"
    assert "9 tokens in 1 chunk" in page.text(PROMPT)


def test_the_borders_of_chunks_are_drawn(page):
    build(page, "S* " + "word " * 80)

    page.wait("return document.querySelectorAll('.f2d-chunk').length === 2")
    assert page.text(".f2d-border >> nth=0") == "Chunk 1, 75 of 75 tokens"


def test_what_is_typed_is_warned_of_and_mended_by_a_click(page):
    made = build(page, "a photo of S*")
    page.wait(f"return document.querySelectorAll('{CHIPS}').length === 2")

    write(page, "a photo of s* in Rome")
    wait_for_text(page, "is not S*, which does not stand in the prompt")
    page.click(f"{PROMPT} button")

    page.wait(f"return document.querySelectorAll('{CHIPS}').length === 2")
    assert page.widget(made["inject"], "text") == "a photo of S* in Rome"
    assert page.prompt()[str(made["inject"])]["inputs"]["text"] == "a photo of S* in Rome"
    assert page.count(f"{PROMPT} .f2d-bad") == 0


def test_a_person_who_is_left_out_can_be_added(page, anna):
    made = build(page, "a photo of S*", anna)

    wait_for_text(page, "anna (anna) does not stand in the prompt")
    page.click(f"{PROMPT} button")
    page.wait(f"return document.querySelectorAll('{CHIPS}').length === 5")
    assert page.widget(made["inject"], "text") == "a photo of S* anna"


def test_the_queue_warns_and_still_takes_the_prompt(page):
    build(page, "a photo of nobody", shown=("PreviewAny", 800, 20, {}))
    page.evaluate(
        "const [show, inject] = ['PreviewAny', 'F2DInject'].map((t) => app.graph.nodes.find((n) => n.type === t));"
        "inject.connect(1, show, 0);"
    )
    wait_for_text(page, "does not stand in the prompt")

    page.evaluate("app.queuePrompt(0, 1);")

    page.wait("return document.body.innerText.includes('A person is missing in the prompt')")


def queue(page):
    """What the frontend says when Run is pressed, before anything is sent."""
    page.evaluate("app.api.dispatchCustomEvent('promptQueueing', {requestId: 1, batchCount: 1});")


def toasts(page):
    return page.evaluate("return [...document.querySelectorAll('.p-toast-message')].map((each) => each.innerText);")


def test_another_word_that_holds_a_marker_is_a_quiet_hint(page, anna):
    """Joanna is Joanna: nobody is missing, so nothing is red, nothing is said at Run, and no button renames her."""
    made = build(page, "a photo of anna with Joanna and S*", anna)
    page.wait(f"return document.querySelectorAll('{CHIPS}').length === 5")
    wait_for_text(page, "“Joanna” is not anna (anna); it stays a word of its own.")

    assert page.count(f"{PROMPT} .f2d-bad") == 0 and page.count(f"{PROMPT} button") == 0
    assert page.evaluate(f"return document.querySelector('{PROMPT}').dataset.state;") == "good"
    assert "in 1 chunk of 75" in page.text(PROMPT)
    queue(page)
    page.evaluate("await new Promise((done) => setTimeout(done, 600));")
    assert toasts(page) == []

    write(page, "a photo of S* with Joanna")  # now she may have been meant
    wait_for_text(page, "“Joanna” is not anna (anna), which does not stand in the prompt.")
    assert page.text(f"{PROMPT} button") == "Write anna"
    assert page.widget(made["inject"], "text") == "a photo of S* with Joanna"


@pytest.mark.parametrize(
    ("text", "marker", "title"),
    [
        ("a photo of nobody", "S*", "A person is missing in the prompt"),
        ("a photo of s*", "S*", "A marker is misspelt in the prompt"),
        ("a photo of anna", "anna", "Two people share a marker"),
        ("a photo of S*", "a:b", "A prompt could not be checked"),
    ],
)
def test_the_message_at_run_is_titled_by_what_is_wrong(page, anna, text, marker, title):
    made = build(page, text, anna if marker == "anna" else None)
    page.evaluate(
        "const w = app.graph.getNodeById(argument[0]).widgets.find((w) => w.name === 'marker');"
        "w.value = argument[1]; w.callback(argument[1]);",
        [made["encode"], marker],
    )
    page.wait(f"return document.querySelector('{PROMPT}')?.dataset.state === 'bad'")

    page.evaluate("await new Promise((done) => setTimeout(done, 600));")  # the newest question is answered
    queue(page)

    page.wait("return document.querySelector('.p-toast-message')")
    (said,) = toasts(page)
    assert title in said and f"(#{made['inject']})" in said


def test_the_marker_is_found_through_reroutes_and_subgraphs(page):
    made = build(page, "a photo of T*", reroute=("Reroute", 300, 300, {}))
    page.evaluate(
        "const [encode, reroute, inject] = argument.map((id) => app.graph.getNodeById(id));"
        "encode.connect(0, reroute, 0); reroute.connect(0, inject, 1);"
        "const marker = encode.widgets.find((w) => w.name === 'marker'); marker.value = 'T*'; marker.callback('T*');",
        [made["encode"], made["reroute"], made["inject"]],
    )
    page.wait(f"return document.querySelectorAll('{CHIPS}').length === 2")

    page.evaluate(
        "const nodes = argument.map((id) => app.graph.getNodeById(id));"
        "app.canvas.deselectAll(); app.canvas.selectItems(nodes); app.graph.convertToSubgraph(new Set(nodes));"
        "const inject = app.graph.nodes.find((n) => n.type === 'F2DInject');"
        "const text = inject.widgets.find((w) => w.name === 'text');"
        "text.value = 'T* there'; text.callback('T* there');",
        [made["encode"], made["reroute"]],
    )
    page.wait(f"return document.querySelector('{PROMPT}').innerText.includes('there')")
    assert page.count(CHIPS) == 2 and page.count(f"{PROMPT} .f2d-bad") == 0


def test_two_people_with_one_marker(page, anna):
    made = build(page, "a photo of S*", anna)
    page.evaluate(
        "const w = app.graph.getNodeById(argument).widgets.find((w) => w.name === 'marker');"
        "w.value = 'S*'; w.callback('S*');",
        made["load"],
    )

    wait_for_text(page, "Two people share the marker S* (anna)")


def test_it_is_reached_by_keys_and_switched_off(page):
    build(page, "a photo of S*")
    page.wait(f"return document.querySelectorAll('{CHIPS}').length === 2")
    page.evaluate("document.activeElement?.blur();")

    page.press("Alt+Shift+T")
    page.wait("return document.activeElement.matches('.f2d-chunks')")

    page.evaluate("await app.extensionManager.setting.set('Face2Diffusion.TokenView.Enabled', false);")
    try:
        page.wait(f"return !(document.querySelector('{PROMPT}')?.offsetHeight > 0)")
        # The classic canvas takes its place away when it draws: after that, only another drawing brings it back.
        page.wait(f"return !(document.querySelector('{PROMPT}')?.closest('.dom-widget')?.offsetHeight > 0)")
    finally:  # the server keeps the setting
        page.evaluate("await app.extensionManager.setting.set('Face2Diffusion.TokenView.Enabled', true);")
    page.wait(f"return document.querySelector('{PROMPT}')?.offsetHeight > 0")
