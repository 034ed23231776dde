"""What the other tests of this ring look at is the extension's: without its script nothing of it is there."""

import pytest

PANELS = {"F2DDetectFaces": ".f2d-picker", "F2DInject": ".f2d-tokens", "F2DTrainMapping": ".f2d-training"}
SCRIPT = "**/face2diffusion.js"


@pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])
@pytest.mark.parametrize("there", [True, False], ids=["with", "without"])
def test_panels_are_the_extensions(open_page, vue, there):
    page = open_page(vue=vue, blocked=[] if there else [SCRIPT])
    for i, node in enumerate(PANELS):
        page.add_node(node, 20 + 420 * i, 20)

    for selector in PANELS.values():
        if there:
            page.wait(f"return document.querySelector('{selector}')?.offsetHeight > 20")
        else:
            assert page.count(selector) == 0
    commands = page.evaluate("return app.extensionManager.command.commands.map((command) => command.id);")
    assert ("Face2Diffusion.FocusTokenView" in commands) == there
