/* What evicting policies have in common. */
#include "evict.h"

void wdt_keeping_start(wdt_keeping *keeping, const wdt_head *head)
{
    memset(keeping, 0, sizeof *keeping);
    keeping->window = head->window;
    keeping->n_global_tokens = head->n_global_tokens;
    memcpy(keeping->global_tokens, head->global_tokens, (size_t)head->n_global_tokens * sizeof *head->global_tokens);
}

int wdt_keeping_fits(const wdt_keeping *keeping, const wdt_head *head)
{
    return keeping->window == head->window && keeping->n_global_tokens == head->n_global_tokens &&
           memcmp(keeping->global_tokens, head->global_tokens,
                  (size_t)head->n_global_tokens * sizeof *head->global_tokens) == 0;
}

int32_t wdt_globals_below(const wdt_keeping *keeping, ptrdiff_t position)
{
    int32_t low = 0, high = keeping->n_global_tokens;
    while (low < high) {
        const int32_t middle = (low + high) / 2;
        if (keeping->global_tokens[middle] < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

int32_t wdt_global_at(const wdt_keeping *keeping, ptrdiff_t position)
{
    const int32_t g = wdt_globals_below(keeping, position);
    return g < keeping->n_global_tokens && keeping->global_tokens[g] == position ? g : -1;
}

void wdt_held_landmarks(const wdt_cache *cache, const wdt_head *head, ptrdiff_t i, wdt_candidates *landmarks)
{
    wdt_landmark_candidates(head, i, i + 1, landmarks);
    if (landmarks->end == 0) {
        return;
    }
    /* the interval ends with the newest complete block */
    const ptrdiff_t oldest = landmarks->end - (cache->blocks - 1);
    const ptrdiff_t begin = landmarks->begin > oldest ? landmarks->begin : oldest, length = landmarks->end - begin;
    int kept = 0;
    for (int s = 0; s < landmarks->n_singles; s++) {
        if (landmarks->singles[s] >= oldest) {
            landmarks->singles[kept++] = wdt_landmark_row(cache, landmarks->singles[s]);
        }
    }
    landmarks->n_singles = kept;
    landmarks->begin = wdt_landmark_row(cache, begin);
    landmarks->end = landmarks->begin + length;
}
