/* The scalar gradient of a window pass: wdt_window_backward() of the reference. */
#ifndef WDT_GRADIENT_H
#define WDT_GRADIENT_H

#include "wdt_attention.h"

size_t wdt_gradient_bytes(const wdt_head *head, ptrdiff_t T);
void wdt_gradient(const wdt_window *window, const float *d_out, float *dq, float *dk, float *dv, void *scratch);

#endif
