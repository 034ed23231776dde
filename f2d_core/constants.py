"""Every number with a meaning, in one place, with its source.

"Official code" is github.com/mapooon/Face2Diffusion (March 2024); "Deep3D" is
github.com/sicxu/Deep3DFaceRecon_pytorch.
"""

# --- the face crop of the identity encoder (official code; the ArcFace template) ---
FACE_CROP_SIZE_PX = 112
# Where the five points go in the 112 px crop, (x, y) px, pixel centres at whole numbers.
# Order everywhere in this project: eye at image left, eye at image right, nose tip,
# mouth corner at image left, mouth corner at image right.
FACE_TEMPLATE_PX = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)

# --- the face crop of the expression encoder (Deep3D pre-processing) ---
EXPRESSION_CROP_SIZE_PX = 224
EXPRESSION_RESCALE = 102.0
# The same five points on the standard 3D face, (x, y, z), y up.
EXPRESSION_POINTS_3D = (
    (-0.3114865720272064, 0.29036077857017517, 0.13377952575683594),
    (0.30979886651039124, 0.289720356464386, 0.1317952573299408),
    (0.003253498813137412, -0.04617932438850403, 0.5524424314498901),
    (-0.25216928124427795, -0.3813391625881195, 0.22405731678009033),
    (0.24846619367599487, -0.38128235936164856, 0.22235769033432007),
)

# --- f_id, the multi-scale identity encoder (Face2Diffusion 3.2; msid.pt) ---
MSID_HEAD_WIDTH = 32  # 12 heads at width 384; not written in a state dict
MSID_BLOCK_EPS = 1e-6
MSID_LEVEL_EPS = 1e-5  # of each level's batch norm and of its layer norm

# --- f_exp (Deep3D; epoch_20.pth): the parts of the 257 coefficients, in order ---
RECON_PARTS = {
    "identity": 80,
    "expression": 64,
    "texture": 80,
    "angle": 3,
    "light": 27,
    "shift_xy": 2,
    "shift_z": 1,
}
EXPRESSION_WIDTH = RECON_PARTS["expression"]

# --- f_map (Face2Diffusion 3.3; mapping.pt) ---
MAPPING_SLOPE = 0.2  # of the leaky rectifiers
MAPPING_DROPOUT = 0.1  # training only

# --- the text encoder of SD 1.x ---
CHUNK_TOKENS = 77
WORD_WIDTHS = {"l": 768, "h": 1024}  # encoder key -> width of a word vector

# --- the noise schedule of SD 1.x ---
NOISE_TIMESTEPS = 1000
EULER_ANCESTRAL, DDIM = "euler_ancestral", "ddim"  # samplers
SAMPLERS = (EULER_ANCESTRAL, DDIM)

# --- words and conventions ---
DEFAULT_MARKER = "S*"
DEFAULT_CLASS_WORD = "a person"
DEFAULT_TEMPLATE = "A photo of S*"
INJECTION_SUM = "sum"  # S* replaces token + position embedding (published weights)
INJECTION_TOKEN = "token"  # S* replaces the token embedding only
INJECTIONS = (INJECTION_SUM, INJECTION_TOKEN)
FEATURES_MSID = "msid"  # the class token of several blocks, each normalised (Face2Diffusion 3.2)
FEATURES_DREAMIDENTITY = "dreamidentity"  # four of them raw, and the recognition embedding (DreamIdentity, Eq. 2)
FEATURES = (FEATURES_MSID, FEATURES_DREAMIDENTITY)

# --- training (Face2Diffusion 3.4: Eq. 1, 8 and 7; and what its settings may be) ---
RECONSTRUCTION, MASKED, CGDR = "reconstruction", "masked", "cgdr"
VARIANTS = (RECONSTRUCTION, MASKED, CGDR)
AUTO = "auto"
PRECISIONS = (AUTO, "fp32", "bf16", "fp16")  # of the denoiser
MASK_EDGES = ("soft", "hard")
# What of a word vector DreamIdentity's penalty (Eq. 4) adds up: its length as printed, or the square of it.
L2_NORM, L2_SQUARED = "norm", "squared"
L2_KINDS = (L2_NORM, L2_SQUARED)
# Whose error the loss is: the noise's, as in the papers, or the velocity's, as models that predict it are trained.
OF_NOISE, OF_VELOCITY = "noise", "velocity"
ERRORS = (OF_NOISE, OF_VELOCITY)
# Labels of the 19-class face parser (f2d_core/data/masks.py lists them) that count as the person. Hair and neck are not
# in `face`: the identity crop hardly shows them, so S* cannot explain them. Glasses (6) are, or the eyes of whoever
# wears some would be missing.
_FACE_LABELS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13})
MASK_PRESETS = {
    "face": _FACE_LABELS,
    "face_no_glasses": _FACE_LABELS - {6},
    "face_hair": _FACE_LABELS | {17},
    "head": _FACE_LABELS | {9, 14, 17, 18},
}

# --- pictures ---
# Refused above this before anything is decoded: 128 megapixels are 384 MB as 8-bit RGB,
# and more than any camera in common use gives.
MAX_IMAGE_PIXELS = 128 * 1024 * 1024
MIN_IMAGE_SIDE_PX = 16

# --- files ---
WEIGHT_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")  # of what the loaders offer
IDENTITIES = "identities"  # the folder of saved people in a model folder
IDENTITY_FORMAT = "f2d-identity"
IDENTITY_FORMAT_VERSION = 1
WEIGHTS_FORMAT = "f2d-weights"
WEIGHTS_FORMAT_VERSION = 1
