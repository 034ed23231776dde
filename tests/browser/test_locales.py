"""The pack in the languages of the frontend: what stands on the nodes, in the settings and in the commands."""

import pytest

from tests.support import locales

LABELS = (
    "const node = LiteGraph.createNode(argument); app.graph.add(node);"
    "await new Promise(requestAnimationFrame);"
    "return {title: node.title,"
    " inputs: Object.fromEntries(node.inputs.map((each) => [each.name, each.label ?? each.localized_name])),"
    " outputs: node.outputs.map((each) => each.label ?? each.localized_name)};"
)
OWN = (
    "const own = app.extensions.find((each) => each.name === 'face2diffusion');"
    "return [(own.settings ?? []).map(({ id, name, tooltip }) => [id, { name, tooltip }]),"
    " (own.commands ?? []).map(({ id, label }) => [id, { label }]),"
    " (own.settings ?? []).flatMap(({ category }) => category.slice(1, -1))];"
)


def test_settings_and_commands_have_their_texts_in_english(open_page):
    """What the scripts say is what locales/en says, so that nothing is left out in the other languages."""
    settings, commands, categories = open_page().evaluate(OWN)

    assert {key.replace(".", "_"): texts for key, texts in settings} == locales.read("en", "settings.json")
    assert {key.replace(".", "_"): texts for key, texts in commands} == locales.read("en", "commands.json")
    assert {name: name for name in categories} == locales.read("en", "main.json")["settingsCategories"]


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_nodes_speak_the_language(open_page, language):
    page = open_page(settings={"Comfy.Locale": language})
    try:
        shown = {name: page.evaluate(LABELS, name) for name in ("F2DEncodeFace", "F2DInject", "F2DAugment")}
        commands = page.evaluate("return app.extensionManager.command.commands.map(({ id }) => id);")
    finally:
        page.evaluate("await app.extensionManager.setting.set('Comfy.Locale', 'en');")  # the server keeps it

    for name, found in shown.items():
        texts = locales.read(language, locales.NODES)[name]
        assert found["title"] == texts["display_name"]
        assert found["inputs"] == {key: value["name"] for key, value in texts["inputs"].items()}
        assert found["outputs"] == [value["name"] for value in texts["outputs"].values()]
    assert {key.replace(".", "_") for key in commands} >= set(locales.read(language, "commands.json"))
