/* The self-test passes with every set of kernels, and fails where one of the core's answers is wrong. Linked with --wrap
 * of the three functions that it rests on. */
#include <string.h>

#include "check.h"
#include "ruv_temporal.h"
#include "wdt_attention.h"
#include "wdt_kernels.h"
#include "wdt_rvne.h"

static enum { RIGHT, CHECKSUM, STEP, LAST_STEP, READ, RANGE } wrong;

uint32_t __real_wdt_crc32(uint32_t crc, const uint8_t *bytes, size_t length);
uint32_t __wrap_wdt_crc32(uint32_t crc, const uint8_t *bytes, size_t length);
wdt_status __real_wdt_step(const wdt_head *head, wdt_cache *cache, const float *q, const float *k, const float *v,
                           float *out);
wdt_status __wrap_wdt_step(const wdt_head *head, wdt_cache *cache, const float *q, const float *k, const float *v,
                           float *out);
void __real_wdt_cache_read(const wdt_cache *cache, ptrdiff_t position, float *key, float *value);
void __wrap_wdt_cache_read(const wdt_cache *cache, ptrdiff_t position, float *key, float *value);

uint32_t __wrap_wdt_crc32(uint32_t crc, const uint8_t *bytes, size_t length)
{
    return __real_wdt_crc32(crc, bytes, length) ^ (wrong == CHECKSUM);
}

wdt_status __wrap_wdt_step(const wdt_head *head, wdt_cache *cache, const float *q, const float *k, const float *v,
                           float *out)
{
    const wdt_status status = __real_wdt_step(head, cache, q, k, v, out);
    const int last = cache->length == cache->capacity;
    out[0] += wrong == STEP || (wrong == LAST_STEP && last) ? 1e-4f : 0.0f; /* a wrong candidate moves more */
    return wrong == RANGE && status == WDT_E_HALF_RANGE ? WDT_OK : status;
}

void __wrap_wdt_cache_read(const wdt_cache *cache, ptrdiff_t position, float *key, float *value)
{
    __real_wdt_cache_read(cache, position, key, value);
    value[2] += wrong == READ ? 2.0f : 0.0f; /* a tie rounded up */
}

int main(void)
{
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    const int n = wdt_instruction_sets(names);
    for (int s = 0; s < n; s++) {
        CHECK(wdt_use_instruction_set(names[s]) == WDT_OK);
        for (int w = RIGHT; w <= RANGE; w++) {
            wrong = w;
            CHECK(ruv_temporal_kernel_self_test() == (w == RIGHT ? ESP_OK : ESP_FAIL));
        }
    }
    return 0;
}
