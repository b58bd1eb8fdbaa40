/* Pooling over the frames so far. `state` is wdt_pool_floats() numbers, not cleared by the caller; `count` frames were
 * seen before this one. Writes pooled [P] as of h [d]. */
#ifndef WDT_POOLING_H
#define WDT_POOLING_H

#include "wdt_model.h"

size_t wdt_pool_floats(const wdt_model *model);

/* Those of them, the first, that are in use after `count` frames. */
size_t wdt_pool_used_floats(const wdt_model *model, ptrdiff_t count);

void wdt_pool(const wdt_model *model, float *state, ptrdiff_t count, const float *h, float *pooled);

#endif
