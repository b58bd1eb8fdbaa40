/* What evicting policies have in common: the head that a cache was made for, and landmarks in a ring. */
#ifndef WDT_EVICT_H
#define WDT_EVICT_H

#include "cache.h"

/* The first part of either's state: what decides which tokens are kept. */
typedef struct wdt_keeping {
    int32_t window, n_global_tokens;
    int32_t global_tokens[WDT_MAX_GLOBAL_TOKENS];
} wdt_keeping;

void wdt_keeping_start(wdt_keeping *keeping, const wdt_head *head);
int wdt_keeping_fits(const wdt_keeping *keeping, const wdt_head *head);

/* Global tokens below this position. */
int32_t wdt_globals_below(const wdt_keeping *keeping, ptrdiff_t position);

/* The place of this position among the global tokens, or -1. */
int32_t wdt_global_at(const wdt_keeping *keeping, ptrdiff_t position);

/* Rows of the landmarks that the query at i reads: its landmark candidates as far as they are held. */
void wdt_held_landmarks(const wdt_cache *cache, const wdt_head *head, ptrdiff_t i, wdt_candidates *landmarks);

#endif
