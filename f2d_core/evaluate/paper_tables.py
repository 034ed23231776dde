"""The numbers that the papers print, with the table or figure they stand in, as data.

Values are as printed, also where a paper contradicts itself; notes say so. Metrics of Face2Diffusion are named as in
f2d_core/evaluate/metrics.py, with hmean and gmean for the means of a picture's six, averaged over the pictures.
Fig. 7 of Face2Diffusion (best of N) is a plot without printed numbers and therefore is not here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FACE2DIFFUSION, DREAMIDENTITY = "face2diffusion", "dreamidentity"
OURS = "ours"  # the key of the paper's own method in its tables
HMEAN, GMEAN = "hmean", "gmean"


@dataclass(frozen=True)
class PaperTable:
    """One table. rows: method -> metric -> value. smaller_is_better: of these metrics."""

    paper: str
    place: str
    title: str
    rows: dict[str, dict[str, float]]
    note: str = ""
    smaller_is_better: frozenset[str] = field(default=frozenset())


def _table(columns: str, rows: dict[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {method: dict(zip(columns.split(), values, strict=True)) for method, values in rows.items()}


_SIX_AND_MEANS = "adaface sphereface facenet clip dclip siglip hmean gmean"
_MISLABELLED = (
    "The column is headed hMean in the paper and holds gMean: the paper's own method has 0.2252 there, which is its "
    "gMean in Table 1, where its hMean is 0.1749."
)

TABLES = (
    PaperTable(
        FACE2DIFFUSION,
        "Table 1",
        "Comparison with previous methods",
        _table(
            _SIX_AND_MEANS,
            {
                "TextualInversion": (0.1654, 0.2518, 0.3197, 0.1877, 0.1075, 0.1283, 0.0320, 0.0575),
                "DreamBooth": (0.3482, 0.4084, 0.4774, 0.2351, 0.1480, 0.3452, 0.0689, 0.1116),
                "CustomDiffusion": (0.4537, 0.5624, 0.6458, 0.2023, 0.1490, 0.2182, 0.1078, 0.1700),
                "Perfusion": (0.0925, 0.1478, 0.1887, 0.2490, 0.1686, 0.3433, 0.0342, 0.0575),
                "E4T": (0.0433, 0.1190, 0.1725, 0.2510, 0.1784, 0.2671, 0.0370, 0.0589),
                "CelebBasis": (0.1601, 0.2724, 0.3762, 0.2563, 0.1847, 0.3624, 0.1138, 0.1542),
                "FastComposer": (0.1736, 0.3271, 0.4725, 0.2495, 0.2149, 0.3168, 0.1655, 0.2120),
                "ELITE": (0.0924, 0.1925, 0.3232, 0.1755, 0.1250, 0.0671, 0.0308, 0.0624),
                "DreamIdentity": (0.2847, 0.4252, 0.5523, 0.1924, 0.1463, 0.1539, 0.0849, 0.1326),
                OURS: (0.3143, 0.4215, 0.5313, 0.2486, 0.2020, 0.3856, 0.1749, 0.2252),
            },
        ),
        "The two means are of each picture's six metrics, averaged over the pictures; means of columns give others.",
    ),
    PaperTable(
        FACE2DIFFUSION,
        "Table 2",
        "FID and the computation costs",
        _table(
            "fid parameters seconds",
            {
                "CustomDiffusion": (86.18, 5.71e7, 140.0),
                "CelebBasis": (69.87, 1024, 220.0),
                "FastComposer": (77.62, 8.88e8, 0.026),
                OURS: (69.33, 1.20e7, 0.006),
            },
        ),
        "FID against pictures of CC12M whose captions name a person; how many and how resized is not said. Seconds to "
        "encode a face on an A100.",
        frozenset({"fid", "parameters", "seconds"}),
    ),
    PaperTable(
        FACE2DIFFUSION,
        "Table 3",
        "Effect of the MSID encoder",
        _table(
            "adaface clip gmean",
            {
                "ArcFace": (0.2421, 0.2758, 0.2135),
                "ArcFace with multi-scale features": (0.3264, 0.2069, 0.1549),
                OURS: (0.3143, 0.2486, 0.2252),
            },
        ),
        _MISLABELLED,
    ),
    PaperTable(
        FACE2DIFFUSION,
        "Table 4",
        "Effect of expression guidance",
        _table(
            "adaface clip gmean",
            {"without expression guidance": (0.3338, 0.2315, 0.2032), OURS: (0.3143, 0.2486, 0.2252)},
        ),
        _MISLABELLED + " Section 4.4 gives 0.3154 for AdaFace where the tables give 0.3143.",
    ),
    PaperTable(
        FACE2DIFFUSION,
        "Table 5",
        "Effect of class-guided denoising regularization",
        _table(
            "adaface clip gmean",
            {
                "Reconstruction": (0.3133, 0.2053, 0.1411),
                "Masked reconstruction": (0.3012, 0.1990, 0.1282),
                "Reconstruction with DSC": (0.1651, 0.2851, 0.1596),
                OURS: (0.3143, 0.2486, 0.2252),
            },
        ),
        _MISLABELLED,
    ),
    PaperTable(
        FACE2DIFFUSION,
        "Section 5",
        "AdaFace on the ten prompts with famous locations",
        _table(
            "adaface",
            {"Reconstruction": (0.2963,), "Reconstruction with DSC": (0.0663,), OURS: (0.2833,)},
        ),
    ),
    PaperTable(
        FACE2DIFFUSION,
        "Table 6",
        "Comparison with the more recent methods",
        _table(
            _SIX_AND_MEANS,
            {
                "OFT": (0.3446, 0.3980, 0.4673, 0.2245, 0.1364, 0.3515, 0.0615, 0.0993),
                "DVAR": (0.0452, 0.0939, 0.1201, 0.2710, 0.1852, 0.4261, 0.0369, 0.0548),
                OURS: (0.3143, 0.4215, 0.5313, 0.2486, 0.2020, 0.3856, 0.1749, 0.2252),
            },
        ),
    ),
    PaperTable(
        DREAMIDENTITY,
        "Table 1",
        "Comparison with optimization-based and efficient methods",
        _table(
            "text_alignment face_similarity seconds",
            {
                "Textual Inversion": (0.213, 0.326, 1200.0),
                "DreamBooth": (0.217, 0.425, 240.0),
                "E4T": (0.220, 0.420, 20.0),
                "ELITE": (0.196, 0.450, 0.05),
                OURS: (0.228, 0.467, 0.04),
            },
        ),
        "Seconds to encode a face; the first two are given as 20 min and 4 min.",
        frozenset({"seconds"}),
    ),
    PaperTable(
        DREAMIDENTITY,
        "Table 2",
        "Ablation of the ID encoder",
        _table(
            "text_alignment face_similarity",
            {
                "CLIP encoder": (0.229, 0.266),
                "ID encoder": (0.228, 0.302),
                "ID encoder, multi-scale features": (0.229, 0.412),
                OURS: (0.228, 0.467),
            },
        ),
        "The ticks of the rows are lost in the text; section 4.3 names them in this order.",
    ),
    PaperTable(
        DREAMIDENTITY,
        "Figure 5",
        "Ablation of self-augmented editability learning",
        _table(
            "text_alignment face_similarity",
            {"reconstruction only": (0.213, 0.380), "self-augmented only": (0.216, 0.348), OURS: (0.228, 0.467)},
        ),
        "The ticks of the rows are lost in the text. Section 4.3: without the augmented set editability suffers, "
        "without reconstruction the similarity is lower.",
    ),
    PaperTable(
        DREAMIDENTITY,
        "Figure 6",
        "Ablation of the number of word embeddings",
        _table(
            "text_alignment face_similarity",
            {"1 word": (0.229, 0.412), "2 words": (0.228, 0.462), "3 words": (0.188, 0.472)},
        ),
        "Two words are the paper's method, whose similarity is 0.467 everywhere else.",
    ),
)


def tables_of(paper: str) -> tuple[PaperTable, ...]:
    """The tables of "face2diffusion" or "dreamidentity", in their order; none for anything else."""
    return tuple(table for table in TABLES if table.paper == paper)


def main_table(paper: str) -> PaperTable | None:
    """The table that a report shows beside its own numbers: the first of the paper."""
    return next(iter(tables_of(paper)), None)
