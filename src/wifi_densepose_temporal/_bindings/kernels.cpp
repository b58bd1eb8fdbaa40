// Which instruction set the kernels use.
#include "bindings.h"

#include <string>

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "wdt_kernels.h"

namespace {

std::vector<std::string> instruction_sets() {
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    const int count = wdt_instruction_sets(names);
    return {names, names + count};
}

double multiply_add(int64_t rounds) {
    nb::gil_scoped_release release;
    float sink;
    return wdt_multiply_add(rounds, &sink);
}

} // namespace

void bind_kernels(nb::module_ &m) {
    m.def("instruction_sets", &instruction_sets);
    m.def("instruction_set", &wdt_instruction_set);
    m.def("use_instruction_set", [](const char *name) { return wdt_use_instruction_set(name) == WDT_OK; });
    m.def("multiply_add", &multiply_add);
}
