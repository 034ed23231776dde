"""Every node as the frontend makes it."""


def test_every_node_can_be_made_and_sends_no_made_up_box(page, server):
    ours = sorted(name for name in server.object_info if name.startswith("F2D"))
    numbers = {name: page.add_node(name, 100 + 40 * i, 100) for i, name in enumerate(ours)}

    prompt = page.prompt()

    for name in ours:
        sent = prompt[str(numbers[name])]["inputs"]
        # The frontend draws widgets of its own for some types and would send their values unasked.
        assert "bounding_box" not in sent, name
        known = server.object_info[name]["input"]
        assert sent.keys() <= known.get("required", {}).keys() | known.get("optional", {}).keys(), name
