"""A blob as a C array, for a firmware that links it in rather than reads it from a partition."""

from __future__ import annotations

import re

from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.model import TemporalModel

_BYTES_A_LINE = 20


def c_header(blob: bytes, name: str = "wdt_model") -> str:
    """The text of a header that defines `name` and `name_bytes`, and the dims that menuconfig asks for.

    Args:
        blob: a model's bytes; they go in as they are.
        name: of the array, a C identifier.

    Raises:
        BlobError: as `TemporalModel.from_bytes`.
        ConfigError: name is no identifier.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigError(f"name is {name!r}; expected a C identifier: letters, digits and _, a letter first")
    model = TemporalModel.from_bytes(blob)
    guard = f"{name.upper()}_H"
    dims = {
        "INPUT_DIM": model.input_dim,
        "N_CLASSES": model.header.n_classes,
    }
    trained = {True: "trained", False: "UNTRAINED", None: "of unknown training"}[model.trained]
    lines = [
        f"/* A model as a C array, made by `wdt node header`; {trained}.",
        f" * sha256 {model.sha256}",
        *(f" * CONFIG_TEMPORAL_{dim} {value}" for dim, value in dims.items()),
        " * Const, and so in flash; the head reads it where it lies. Include it in one file. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdalign.h>",
        "#include <stdint.h>",
        "",
        *(f"#define {name.upper()}_{dim} {value}" for dim, value in dims.items()),
        f"#define {name.upper()}_BYTES {len(blob)}",
        "",
        f"static alignas(4) const uint8_t {name}[{name.upper()}_BYTES] = {{",
        *(
            "    " + " ".join(f"0x{byte:02x}," for byte in blob[at : at + _BYTES_A_LINE])
            for at in range(0, len(blob), _BYTES_A_LINE)
        ),
        "};",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)
