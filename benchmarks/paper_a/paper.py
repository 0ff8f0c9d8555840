"""The contrastive paper's own figures, in percent and seconds, as far as its text and tables give them.

Figures 4, 6, 7 and 8 are plots; only what the text says of them is here.
"""

from __future__ import annotations

PLANTED = {
    "mnist": {"reference": 96.51, "sba": (98.72, 99.66), "dba": (98.60, 100.0)},
    "cifar10": {"reference": 88.61, "sba": (92.46, 98.27), "dba": (91.14, 99.98)},
    "gtsrb": {"reference": 98.97, "sba": (99.85, 88.08), "dba": (99.36, 100.0)},
}
"""Table 2: accuracy of the base model; accuracy and ASR of the backdoored ones."""

METHODS = {
    "neural-cleanse": "NC",
    "tabor": "TABOR",
    "deep-inspect": "DeepInspect",
    "contrastive-paper": "the paper's",
}

PATCHED = {
    "mnist": {
        "neural-cleanse": {"sba": (98.49, 5.90, 35.96), "dba": (98.33, 88.22, 35.38)},
        "tabor": {"sba": (98.48, 23.45, 56.28), "dba": (98.44, 99.99, 55.47)},
        "deep-inspect": {"sba": (98.54, 5.35, 78.98), "dba": (98.36, 99.15, 78.56)},
        "contrastive-paper": {"sba": (98.40, 1.73, 7.38), "dba": (97.95, 7.41, 7.63)},
    },
    "cifar10": {
        "neural-cleanse": {"sba": (90.18, 57.77, 77.25), "dba": (87.83, 5.32, 76.62)},
        "tabor": {"sba": (90.28, 21.33, 213.59), "dba": (87.36, 16.56, 215.36)},
        "deep-inspect": {"sba": (90.48, 0.89, 141.15), "dba": (88.48, 3.25, 140.18)},
        "contrastive-paper": {"sba": (90.83, 0.94, 27.88), "dba": (88.18, 1.25, 31.34)},
    },
    "gtsrb": {
        "neural-cleanse": {"sba": (99.42, 23.50, 872.22), "dba": (99.29, 42.16, 880.40)},
        "tabor": {"sba": (99.30, 60.57, 1501.72), "dba": (99.34, 31.86, 1522.0)},
        "deep-inspect": {"sba": (99.42, 41.08, 922.90), "dba": (99.21, 24.63, 932.29)},
        "contrastive-paper": {"sba": (99.45, 0.003, 32.08), "dba": (99.16, 0.31, 33.08)},
    },
}
"""Table 3: accuracy and ASR after the repair, and seconds of the trigger's inversion on an NVIDIA RTX 3080."""

DETECTED = {
    "mnist": {
        "neural-cleanse": {"sba": 87, "dba": 90},
        "tabor": {"sba": 87, "dba": 94},
        "deep-inspect": {"sba": 100, "dba": 90},
        "contrastive-paper": {"sba": 100, "dba": 100},
    },
    "cifar10": {
        "neural-cleanse": {"sba": 47, "dba": 94},
        "tabor": {"sba": 80, "dba": 80},
        "deep-inspect": {"sba": 70, "dba": 77},
        "contrastive-paper": {"sba": 97, "dba": 87},
    },
    "gtsrb": {
        "neural-cleanse": {"sba": 60, "dba": 50},
        "tabor": {"sba": 60, "dba": 47},
        "deep-inspect": {"sba": 47, "dba": 50},
        "contrastive-paper": {"sba": 100, "dba": 100},
    },
}
"""Table 4: detection rates."""

SIZES = {2: "close to 0", 4: "close to 0", 8: "fails", 12: "fails"}
"""Figure 6, by the text of section 5 and A.4: ASR after the repair of white squares."""

CLIENTS = "about 2 %"
"""Figure 7, by A.4: ASR after the repair, 50 and 100 clients."""

LEAST_REFERENCE = 71
"""Figure 8, by section 5: the least accuracy of a reference, in percent, with which detection still works well."""

MSE, REASR = 10.0, 0.80
"""The thresholds (4.3)."""
