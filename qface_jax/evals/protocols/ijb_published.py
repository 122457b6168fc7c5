"""Published rows of IJB-B and IJB-C, to stand beside ours."""

from qface_jax.evals.results import PAGE, Column, Table

# Model, TAR at FAR 1e-4 and 1e-5 in percent, source. All 1:1 with image and mirror
# image; the rule of FAR is that of each program, mostly the published one.
_VERIFICATION = {
    "ijbb": (
        ("ArcFace R100 MS1MV2", 94.25, None, "AdaFace README"),
        ("AdaFace R18 VGG2", 90.67, None, "AdaFace README"),
        ("AdaFace R18 WebFace4M", 93.03, None, "AdaFace README"),
        ("AdaFace R50 MS1MV2", 94.82, None, "AdaFace README"),
        ("AdaFace R50 WebFace4M", 95.44, None, "AdaFace README"),
        ("AdaFace R100 MS1MV2", 95.67, None, "AdaFace README"),
        ("AdaFace R100 MS1MV3", 95.84, None, "AdaFace README"),
        ("AdaFace R100 WebFace4M", 96.03, None, "AdaFace README"),
        ("AdaFace R100 WebFace12M", 96.41, None, "AdaFace README"),
        ("AdaFace IR18 CASIA", 30.36, None, "CVLface board"),
        ("AdaFace IR50 CASIA", 46.04, None, "CVLface board"),
        ("AdaFace IR101 WebFace4M", 96.10, None, "CVLface board"),
        ("ViT KPRPE WebFace4M", 95.56, None, "CVLface board"),
        ("ViT KPRPE WebFace12M", 96.55, None, "CVLface board"),
        ("R18 Glint360K", 93.68, None, "ijb_evals.py, comments"),
    ),
    "ijbc": (
        ("ArcFace R100 MS1MV2", 96.03, None, "AdaFace README"),
        ("R50 MS1MV3", 96.37, 94.47, "arcface_torch README"),
        ("R100 MS1MV3", 96.85, 95.02, "arcface_torch README"),
        ("R100 Glint360K", 97.55, 96.38, "arcface_torch README"),
        ("R100 WebFace42M, PFC 0.2", 97.70, 96.31, "arcface_torch README"),
        ("ViT-B WebFace42M", 97.91, 97.05, "arcface_torch README"),
        ("ViT-L WebFace42M", 98.00, None, "arcface_torch README"),
        ("MobileFaceNet 0.45G MS1MV2", 93.61, 90.28, "arcface_torch README"),
        ("MobileFaceNet 0.45G MS1MV3", 94.23, 91.33, "arcface_torch README"),
        ("MobileFaceNet 0.45G Glint360K", 95.04, 92.62, "arcface_torch README"),
        ("AdaFace R18 VGG2", 92.95, None, "AdaFace README"),
        ("AdaFace R18 WebFace4M", 94.99, None, "AdaFace README"),
        ("AdaFace R50 MS1MV2", 96.27, None, "AdaFace README"),
        ("AdaFace R50 WebFace4M", 96.98, None, "AdaFace README"),
        ("AdaFace R100 MS1MV2", 96.89, None, "AdaFace README"),
        ("AdaFace R100 MS1MV3", 97.09, None, "AdaFace README"),
        ("AdaFace R100 WebFace4M", 97.39, None, "AdaFace README"),
        ("AdaFace R100 WebFace12M", 97.66, None, "AdaFace README"),
        ("AdaFace IR18 CASIA", 37.10, None, "CVLface board"),
        ("AdaFace IR50 CASIA", 52.97, None, "CVLface board"),
        ("AdaFace IR101 WebFace4M", 97.46, None, "CVLface board"),
        ("ViT KPRPE WebFace4M", 97.13, None, "CVLface board"),
        ("ViT KPRPE WebFace12M", 97.82, None, "CVLface board"),
        ("R18 Glint360K", 95.33, None, "ijb_evals.py, comments"),
    ),
}
# Model, TPIR at FPIR 0.01 and 0.1 in percent, source.
_OPEN_SET = {
    "ijbc": (("VPL baseline", 90.0, 94.4, "Keras_insightface README"),),
    "ijbb": (),
}


def table(benchmark: str, scalars: dict[str, float]) -> Table:
    """Returns ours by both rules, then the published rows with their source.

    Args:
        benchmark: "ijbb" or "ijbc".
        scalars: of the result, by the rule "at_most".
    """

    def ours(word: str, part: str) -> list:
        names = (f"tar_{part}1e-4", f"tar_{part}1e-5")
        open_set = (f"tpir_{part}0.01", f"tpir_{part}0.1")
        return [word, *(scalars.get(name) for name in (*names, *open_set)), "this run"]

    def shares(*values: float | None) -> list[float | None]:
        return [None if value is None else value / 100 for value in values]

    rows = [
        ours("this model, rates at most", ""),
        ours("this model, published rule", "published_"),
    ]
    rows += [
        [name, *shares(at_4, at_5), None, None, source]
        for name, at_4, at_5, source in _VERIFICATION[benchmark]
    ]
    rows += [
        [name, None, None, *shares(low, high), source]
        for name, low, high, source in _OPEN_SET[benchmark]
    ]
    return Table(
        [
            Column("Model", left=True),
            Column("TAR@1e-4", "percent"),
            Column("TAR@1e-5", "percent"),
            Column("TPIR@0.01", "percent"),
            Column("TPIR@0.1", "percent"),
            Column("Source", left=True),
        ],
        rows,
        "Published numbers",
        notes=[
            "Models trained on CASIA-WebFace lose half of their rate here: that is so "
            "in the published numbers too."
        ],
        shown=PAGE,
    )
