// The extension module: core/ made callable, and nothing else.
#include "bindings.h"

#include "wdt_status.h"

NB_MODULE(_core, m) {
    // A daemon thread inside a kernel at exit is not a leak that a user can act on.
    nb::set_leak_warnings(false);
    nb::enum_<wdt_status>(m, "Status", nb::is_arithmetic())
        .value("OK", WDT_OK)
        .value("CONFIG", WDT_E_CONFIG)
        .value("FULL", WDT_E_FULL)
        .value("HALF_RANGE", WDT_E_HALF_RANGE)
        .value("NON_FINITE", WDT_E_NON_FINITE)
        .value("TOO_SHORT", WDT_E_TOO_SHORT)
        .value("MAGIC", WDT_E_MAGIC)
        .value("VERSION", WDT_E_VERSION)
        .value("FLAGS", WDT_E_FLAGS)
        .value("LENGTH", WDT_E_LENGTH)
        .value("CRC", WDT_E_CRC)
        .value("DIMS", WDT_E_DIMS)
        .value("HEAD_RATIO", WDT_E_HEAD_RATIO)
        .value("DEGENERATE", WDT_E_DEGENERATE)
        .value("RECORD", WDT_E_RECORD)
        .value("MODEL", WDT_E_MODEL)
        .value("ALIGNMENT", WDT_E_ALIGNMENT);
    bind_kernels(m);
    bind_head(m);
    bind_step(m);
    bind_window(m);
    bind_blob(m);
    bind_model(m);
    bind_pool(m);
    bind_chain(m);
    bind_wire(m);
    bind_node(m);
}
