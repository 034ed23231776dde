"""The first five minutes: the template is opened, a photo chosen, Run pressed, and there is a picture."""

import pytest

from tests.support import base_directory

TEMPLATE = "[role=dialog] >> text=/^face.to.image$/i"


@pytest.fixture(autouse=True)
def detector(yunet_file):
    """Without it nothing is found."""


def widget_place(page, kind, name):
    """Where on the page the middle of a widget is."""
    return page.evaluate(
        "const node = app.graph.nodes.find((each) => each.type === argument[0]);"
        "const widget = node.widgets.find((each) => each.name === argument[1]);"
        "return app.canvasPosToClientPos([node.pos[0] + node.size[0] / 2, node.pos[1] + widget.y + 10]);",
        [kind, name],
    )


def choose_photo(page, photo):
    if page.vue:
        page.choose_files("[data-node-id] input[type=file]", photo)
    else:
        page.choose_files_at(*widget_place(page, "LoadImage", "upload"), photo)
    page.wait("return app.graph.nodes.find((each) => each.type === 'LoadImage').widgets[0].value === 'me.png';")


def test_template_photo_run_picture(page, base, server, tmp_path, screenshots):
    photo = tmp_path / "me.png"
    photo.write_bytes((base / "input" / "astronaut.png").read_bytes())
    page.evaluate("await app.extensionManager.command.execute('Comfy.BrowseTemplates');")
    page.click("[role=dialog] [role=button]:has-text('face2diffusion')")
    page.wait(
        "return [...document.querySelectorAll('[role=dialog] h3')].some((e) => e.title.includes('face_to_image'));"
    )
    page.screenshot(screenshots / f"first_templates_{page.vue}.png")
    page.click(TEMPLATE)
    page.wait("return app.graph.nodes.some((node) => node.type === 'F2DEncodeFace');")
    page.evaluate("await new Promise((done) => setTimeout(done, 1500));")  # the view moves to where the nodes are

    choose_photo(page, photo)
    # The user's own checkpoint; fewer steps and pixels, for two cores.
    changed = {"CheckpointLoaderSimple": {"ckpt_name": base_directory.CHECKPOINT}, "KSampler": {"steps": 2}}
    changed["EmptyLatentImage"] = {"width": 256, "height": 256}
    page.evaluate(
        "for (const [type, values] of Object.entries(argument)) for (const [name, value] of Object.entries(values)) {"
        "  const node = app.graph.nodes.find((each) => each.type === type);"
        "  const widget = node.widgets.find((each) => each.name === name);"
        "  widget.value = value; widget.callback?.(value, app.canvas, node);"
        "  node.onWidgetChanged?.(name, value, null, widget); }"
        "window.saved = null; app.api.addEventListener('executed', ({detail}) => {"
        "  if (app.graph.getNodeById(detail.node)?.type === 'SaveImage') window.saved = detail.output; });",
        changed,
    )
    page.click("button:has-text('Run')")
    page.wait("return window.saved;", 120_000)

    (shown,) = page.evaluate("return window.saved.images;")
    assert server.picture(shown).shape == (256, 256, 3) and server.picture(shown).std() > 1
    assert page.count("dialog") == 0  # nothing was missing
    page.evaluate("await new Promise((done) => setTimeout(done, 1000));")
    page.screenshot(screenshots / f"first_picture_{page.vue}.png")
