/* A window pass made of steps: every position by itself, over rows that lie as the caller has them. What the sets
 * without vectors share, so that each of them is little more than its attention of one position. */
#ifndef WDT_POSITIONS_H
#define WDT_POSITIONS_H

#include "attend.h"

/* One position's queries q [heads, D] of one group -> out [heads, D], and log_sum [heads] unless it is NULL. */
typedef void wdt_attend_group(const float *q, int heads, int D, const wdt_rows *token_rows,
                              const wdt_candidates *tokens, const wdt_rows *landmark_rows,
                              const wdt_candidates *landmarks, float *out, float *log_sum);

/* prepared: mean_k, mean_v [blocks, D]; scratch: none */
size_t wdt_positions_prepared_bytes(const wdt_head *head, ptrdiff_t T);
size_t wdt_positions_scratch_bytes(const wdt_head *head, ptrdiff_t T);
void wdt_positions_prepare(const wdt_window *window, int share, int shares);
void wdt_positions_attend(const wdt_window *window, int share, int shares, wdt_attend_group *attend);

#endif
