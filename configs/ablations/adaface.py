"""Tables 1 to 3 of AdaFace."""

from qface_jax.configs.ablations.ablation import HQ_SETS, Ablation, Setting

COLUMNS = ("HQ avg.", "LQ avg.")
COLUMNS_TEXT = (
    "HQ avg.: accuracy averaged over LFW, CFP-FP, CPLFW, AgeDB and CALFW at 112 px, "
    "which --size=paper measures too. LQ avg.: over closed-set rank retrieval and "
    "open-set TPIR of the three protocols of IJB-S, which have no command here: no "
    "layout of that set is public. "
)
_MARGINS = {"paper": "adaface_margins", "demo": "adaface_demo_margins"}
_AUGMENTATION = {"paper": "adaface_augmentation", "demo": "adaface_demo_augmentation"}
_DEMO_BASELINES = {"demo": "adaface_demo_baselines"}

COLUMNS_OF_3 = (
    "LFW", "CFP-FP", "CPLFW", "AgeDB", "CALFW", "HQ avg.", "IJB-B", "IJB-C",
    "TinyFace", "rank 5",
)  # fmt: skip
COLUMNS_OF_3_TEXT = (
    "Accuracy on LFW, CFP-FP, CPLFW, AgeDB, CALFW and their average at 112 px, which "
    "--size=paper measures too; IJB-B and IJB-C: TAR at FAR 1e-4; TinyFace: rank 1 and "
    "5; these by `qface eval --config=eval_adaface`. IJB-S, Table 3 (b), has no "
    "command here: no layout of that set is public. The paper's numbers of the other "
    "methods are those that their authors published, or of their released models, not "
    "of one recipe; here all have AdaFace's, but for its augmentation. "
)

ABLATIONS: dict[str, Ablation] = {
    "adaface1": Ablation(
        title="AdaFace Table 1: concentration h, margin m, quality proxy",
        families=_MARGINS,
        settings=(
            Setting("CurricularFace", "curricularface", "m 0.5", (93.43, 32.92)),
            Setting("h 0.22", "h022", "h 0.22, m 0.4, feature norm", (93.67, 34.92)),
            Setting("h 0.33", "h033", "h 0.33, m 0.4, feature norm", (93.74, 35.40)),
            Setting("h 0.66", "h066", "h 0.66, m 0.4, feature norm", (93.70, 35.29)),
            Setting("m 0.50", "m050", "h 0.33, m 0.5, feature norm", (93.56, 35.23)),
            Setting("m 0.75", "m075", "h 0.33, m 0.75, feature norm", (93.37, 35.69)),
            Setting("1-BRISQUE", "brisque", "h 0.33, m 0.4", (93.43, 34.55)),
            Setting("P_y", "probability", "h 0.33, m 0.4", (93.46, 35.17)),
        ),
        columns=COLUMNS,
        columns_text=f"{COLUMNS_TEXT}ResNet-18 on a random part of MS1MV2 (give it "
        "with --config.data.path), whose share is illegible in the copy at hand; "
        "1/6 of the images is from memory of the paper.",
        mean_sets=HQ_SETS,
        proposed="h 0.33",
        reference="CurricularFace",
        claim="h 0.33, m 0.4 is best on high quality (93.74); m 0.75 is best on low "
        "quality (35.69, h 0.33 35.40) and loses on high quality (93.37). Every row of "
        "AdaFace is above CurricularFace on low quality (32.92).",
    ),
    "adaface2": Ablation(
        title="AdaFace Table 2: probability p of the augmentations",
        families=_AUGMENTATION,
        settings=(
            Setting(
                "CurricularFace 0.0", "curricularface_p00", "no augmentation",
                (96.85, 41.00),
            ),
            Setting(
                "CurricularFace 0.2", "curricularface_p02", "each with p 0.2",
                (96.75, 40.84),
            ),
            Setting(
                "CurricularFace 0.3", "curricularface_p03", "each with p 0.3",
                (96.59, 40.58),
            ),
            Setting("AdaFace 0.0", "adaface_p00", "no augmentation", (96.72, 40.95)),
            Setting("AdaFace 0.2", "adaface_p02", "each with p 0.2", (96.88, 41.82)),
            Setting("AdaFace 0.3", "adaface_p03", "each with p 0.3", (96.78, 41.93)),
        ),
        columns=COLUMNS,
        columns_text=f"{COLUMNS_TEXT}ResNet-50 on MS1MV2 (give it with "
        "--config.data.path); crop, rescaling and photometric change, each with "
        "probability p; 24 epochs without, 26 with them.",
        mean_sets=HQ_SETS,
        proposed="AdaFace 0.2",
        reference="AdaFace 0.0",
        claim="The augmentations help AdaFace on low quality (41.82 and 41.93, without "
        "40.95) and hurt CurricularFace on both (p 0.3 96.59 and 40.58, without 96.85 "
        "and 41.00).",
    ),
    "adaface3": Ablation(
        title="AdaFace Table 3, trained on MS1MV2: margin functions",
        families={"paper": "adaface_ms1mv2", **_DEMO_BASELINES},
        settings=(
            Setting(
                "CosFace", "cosface", "m 0.35, no augmentation",
                (99.81, 98.12, 92.28, 98.11, 95.76, 96.82, 94.80, 96.37, None, None),
            ),
            Setting(
                "ArcFace", "arcface", "m 0.5, no augmentation",
                (99.83, 98.27, 92.08, 98.28, 95.45, 96.78, 94.25, 96.03, None, None),
            ),
            Setting(
                "CurricularFace", "curricularface", "m 0.5, no augmentation",
                (99.80, 98.37, 93.13, 98.32, 96.20, 97.16, 94.80, 96.10, 63.68, 67.65),
            ),
            Setting(
                "MagFace", "magface", "no augmentation",
                (99.83, 98.46, 92.87, 98.17, 96.15, 97.10, 94.51, 95.97, None, None),
            ),
            Setting(
                "AdaFace", "adaface", "m 0.4, augmentation with p 0.2",
                (99.82, 98.49, 93.53, 98.05, 96.08, 97.19, 95.67, 96.89, 68.21, 71.54),
            ),
        ),
        columns=COLUMNS_OF_3,
        columns_text=f"{COLUMNS_OF_3_TEXT}ResNet-100 on MS1MV2 (give it with "
        "--config.data.path).",
        mean_sets=HQ_SETS,
        proposed="AdaFace",
        reference="ArcFace",
        claim="AdaFace is on par on high quality (97.19, CurricularFace 97.16), and "
        "best of these on mixed quality (IJB-B 95.67, ArcFace 94.25) and on low "
        "quality (TinyFace 68.21, CurricularFace 63.68).",
    ),
    "adaface3webface4m": Ablation(
        title="AdaFace Table 3, trained on WebFace4M: margin functions",
        families={"paper": "adaface_webface4m", **_DEMO_BASELINES},
        settings=(
            Setting(
                "ArcFace", "arcface", "m 0.5, no augmentation",
                (99.83, 99.19, 94.35, 97.95, 96.00, 97.46, 95.75, 97.16, 71.11, 74.38),
            ),
            Setting(
                "AdaFace", "adaface", "m 0.4, augmentation with p 0.2",
                (99.80, 99.17, 94.63, 97.90, 96.05, 97.51, 96.03, 97.39, 72.02, 74.52),
            ),
        ),
        columns=COLUMNS_OF_3,
        columns_text=f"{COLUMNS_OF_3_TEXT}ResNet-100 on WebFace4M (give it with "
        "--config.data.path).",
        mean_sets=HQ_SETS,
        proposed="AdaFace",
        reference="ArcFace",
        claim="AdaFace is above ArcFace on mixed quality (IJB-C 97.39, ArcFace 97.16) "
        "and on low quality (TinyFace 72.02, ArcFace 71.11), and on par on high "
        "quality (97.51, ArcFace 97.46).",
    ),
}  # fmt: skip
