/* Which instruction set the kernels use. One source is compiled for several; the caller chooses one, once, at load.
 *
 * Until then it is "scalar". In a build with -DWDT_SCALAR, a microcontroller's, it is "portable", or "integer" where the
 * target has no float unit; all three are plain C, and none needs a vector header. */
#ifndef WDT_KERNELS_H
#define WDT_KERNELS_H

#include <stdint.h>

#include "wdt_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WDT_MAX_INSTRUCTION_SETS 6

/* Names of those that this build holds and this processor runs, the fastest first, "scalar" last. Returns how many. */
int wdt_instruction_sets(const char *names[WDT_MAX_INSTRUCTION_SETS]);

/* The one in use. */
const char *wdt_instruction_set(void);

/* Uses the one of this name; WDT_E_CONFIG if it is not among those above. Not while another thread is in the core. */
wdt_status wdt_use_instruction_set(const char *name);

/* Multiplies and adds in registers alone, `rounds` times over, with the instruction set in use: a core's peak, for
 * benchmarks to time. Returns the number of floating-point operations done; *sink receives a number that needs them. */
double wdt_multiply_add(int64_t rounds, float *sink);

#ifdef __cplusplus
}
#endif
#endif
