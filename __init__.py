"""Face2Diffusion for ComfyUI: what the host loads. Nothing is imported before the host asks for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The extension with all nodes. A failure is logged with its traceback, since the host prints one line only."""
    import logging

    try:
        from .nodes import Face2DiffusionExtension
    except Exception:
        logging.getLogger("face2diffusion").exception("Face2Diffusion could not be loaded")
        raise
    return Face2DiffusionExtension()
