"""Doctor."""

from __future__ import annotations

from . import host, sockets
from .host import io


class Doctor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DDoctor",
            display_name="Doctor",
            description=(
                "Looks whether everything is in order: versions, optional packages, which weights are there and under "
                "which licence, and a self-test with a picture. The report is made for bug reports."
            ),
            search_aliases=["face2diffusion", "doctor", "self-test", "diagnose", "bug report", "weights"],
            is_output_node=True,
            inputs=[],
            outputs=[io.String.Output("report"), io.Image.Output("picture")],
        )

    @classmethod
    def fingerprint_inputs(cls):
        return float("nan")  # equal to nothing: looked at anew every time

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from .upkeep import report

        found = report(lambda done, total: host.progress(total)(done, total))
        picture = sockets.image([found.test.picture])
        shown = {**host.ui.PreviewImage(picture, cls=cls).as_dict(), **host.ui.PreviewText(found.text).as_dict()}
        return io.NodeOutput(found.text, picture, ui=shown)
