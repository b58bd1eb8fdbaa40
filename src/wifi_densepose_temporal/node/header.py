"""A blob as a C array, for a firmware that links it in rather than reads it from a partition."""

from __future__ import annotations

import re

from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.model import TemporalModel

#: Of the array; not `wdt_model`, which is a type of the core's.
DEFAULT_NAME = "model_blob"

_BYTES_A_LINE = 20
_KEYWORDS = (
    "auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|inline|int|long|register|"
    "restrict|return|short|signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile|while"
)
_TAKEN = ("wdt_", "ruv_temporal", "temporal_")  # by the headers of core and component


def c_header(blob: bytes, name: str = DEFAULT_NAME) -> str:
    """The text of a header that defines `name` and `name_bytes`, and the dims that menuconfig asks for.

    Args:
        blob: a model's bytes; they go in as they are.
        name: of the array, a C identifier.

    Raises:
        BlobError: as `TemporalModel.from_bytes`.
        ConfigError: name is no identifier, or one that C, the core or the component has.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigError(f"name is {name!r}; expected a C identifier: letters, digits and _, a letter first")
    if re.fullmatch(_KEYWORDS, name) or name.startswith(_TAKEN):
        raise ConfigError(f"name is {name!r}, which is C's or this project's own; give another")
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
        f"alignas(4) static const uint8_t {name}[{name.upper()}_BYTES] = {{",
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
