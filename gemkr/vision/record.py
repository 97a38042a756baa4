"""What a boxes file and a region store record of the detector that they were made with, and whether another is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gemkr.errors import VisionError
from gemkr.vision.config import DetectorConfig

DETECTION = ("regions", "confidence", "overlap", "image_size")
"""The settings that decide which boxes are found; the margin concerns their crops only."""


@dataclass(frozen=True, slots=True)
class DetectorRecord:
    """A detector as files record it; None is unknown (files of earlier versions).

    `fingerprint` is a hash of weights and detection settings together, `weights_sha256` of the weights file alone.
    `config.weights` is the place of the weights when the boxes were found; `margin` is None in a boxes file.
    """

    fingerprint: str
    config: DetectorConfig | None = None
    weights_sha256: str | None = None
    margin: float | None = None

    def to_header(self) -> dict[str, Any]:
        """What the first line of a boxes file says, and the index of a region store, without the margin."""
        header: dict[str, Any] = {"detector": self.fingerprint}
        if self.config is not None:
            header["settings"] = {name: getattr(self.config, name) for name in DETECTION}
            if self.config.weights is not None:
                header["weights"] = {"file": self.config.weights, "sha256": self.weights_sha256}
        return header

    @staticmethod
    def from_header(header: Mapping[str, Any]) -> DetectorRecord:
        """The opposite of `to_header`, with the margin where there is one; KeyError or TypeError for another form."""
        margin, settings, weights = header.get("margin"), header.get("settings"), header.get("weights", {})
        config = None
        if settings is not None:
            config = DetectorConfig(
                weights.get("file"), **{name: settings[name] for name in DETECTION if name in settings}
            )
            config = config if margin is None else replace(config, margin=margin)
        return DetectorRecord(header["detector"], config, weights.get("sha256"), margin)


def require_same_detector(recorded: DetectorRecord, used: DetectorRecord, place: object) -> None:
    """VisionError names what differs between the detector of the store at `place` and the one used beside it.

    Unknown values are not compared; the fingerprints always are.
    """
    differences = list(_differences(recorded, used))
    if differences:
        raise VisionError(
            f"the regions of {place} were made with another detector than the one beside them ({', '.join(differences)}); "
            "use the store's detector and settings, or detect and encode its regions again"
        )


def _differences(recorded: DetectorRecord, used: DetectorRecord) -> list[str]:
    """Such as `confidence 0.4, not 0.25`: the recorded value first."""
    found = []
    ours, theirs = recorded.weights_sha256, used.weights_sha256
    if ours is not None and theirs is not None and ours != theirs:
        found.append(f"weights {ours[:12]}, not {theirs[:12]}")
    if recorded.config is not None and used.config is not None:
        before, now = asdict(recorded.config), asdict(used.config)
        found += [
            f"{name} {before[name]}, not {now[name]}" for name in DETECTION if before[name] != now[name]
        ]
    if not found and recorded.fingerprint != used.fingerprint:
        found.append(f"fingerprint {recorded.fingerprint[:12]}, not {used.fingerprint[:12]}")
    if recorded.margin is not None and used.margin is not None and recorded.margin != used.margin:
        found.append(f"margin {recorded.margin}, not {used.margin}")
    return found
