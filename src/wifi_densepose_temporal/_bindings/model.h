// A loaded model.
#pragma once

#include "bindings.h"

#include "wdt_model.h"

// Keeps the blob's bytes alive, because the model points into them.
struct Model {
    Bytes bytes;
    wdt_model model{};
};
