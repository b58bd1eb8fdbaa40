/* Does this chip, compiled with these options, compute what the host computes? Numbers small enough to check at every
 * start, and large enough to go through checksum, float16, candidates of every kind, landmarks and softmax. */
#include "ruv_temporal.h"

#include <math.h>

#include "wdt_attention.h"
#include "wdt_rvne.h"

enum { T = 12, HQ = 2, HKV = 1, D = 4, WINDOW = 3, BLOCK = 4 };

static const wdt_head head = {
    .q_heads = HQ,
    .kv_heads = HKV,
    .head_dim = D,
    .window = WINDOW,
    .block_size = BLOCK,
    .n_global_tokens = 1, /* token 0 */
    .causal = 1,
    .log_stride = 1,
    .landmarks = 1,
};

/* -2 .. 2 in steps of 1/16: exact in float32 and in float16, products in float32 too. */
static float number(int n)
{
    return (float)((n * 37 + 11) % 64) / 16.0f - 2.0f;
}

static float query(int t, int n) { return number(7 * t * t + 5 * n); }

static float key(int t, int n) { return number(3 * t * t + 11 * n + t + 1); }

static float value(int t, int n) { return number(5 * t * t + 7 * n * n + 13 * n + 3 * t + 2); }

/* What attention makes of them, [T, Hq D]: tests/reference.py, in float64. */
static const float expected[T][HQ * D] = {
    // clang-format off
    {-0.68750000f, 1.56250000f, 0.18750000f, -0.81250000f, -0.68750000f, 1.56250000f, 0.18750000f, -0.81250000f},
    {-0.54794215f, 1.47876529f, 0.10376529f, -0.67294215f, 0.14029935f, 1.06582039f, -0.30917961f, 0.01529935f},
    {1.35965030f, 0.34472765f, -1.03027235f, 1.23465030f, -0.44988057f, 1.54816084f, 0.17316084f, -0.57488057f},
    {0.35602442f, 0.22129620f, 0.00360607f, 0.23102442f, 0.20626997f, 0.41257607f, 0.05621244f, 0.08126997f},
    {-0.21128074f, 0.37750777f, 0.41930137f, -0.33628074f, 0.55817642f, -0.18202209f, -0.01477880f, 0.43317642f},
    {0.02256650f, 0.41462029f, -0.12563300f, -0.10243350f, -0.21546510f, 0.38790380f, 0.40022853f, -0.34046510f},
    {-0.15488088f, 0.29045663f, 0.24375487f, -0.27988088f, -0.25105259f, 0.29533692f, 0.00892243f, -0.37605259f},
    {-0.26954871f, 0.18003098f, -0.08556152f, -0.39454871f, -0.24198681f, -0.26919626f, 0.46373001f, -0.36698681f},
    {-0.29917725f, 0.23401831f, -0.27135950f, -0.42417725f, -0.44756714f, 0.29534354f, -0.23525707f, -0.57256714f},
    {-0.77029095f, 0.65982933f, -0.51352321f, -0.89529095f, -0.36078581f, 0.61547221f, -0.59380946f, -0.48578581f},
    {-0.25770426f, 0.39406933f, 0.28386154f, -0.38270426f, -0.24237123f, 0.22565382f, 0.02355646f, -0.36737123f},
    {-0.56956324f, 0.33104035f, 0.20366966f, -0.69456324f, -0.54654481f, 0.18701423f, 0.21423095f, -0.67154481f},
    // clang-format on
};

/* A score is at most 4 * 2 * 2 / sqrt(4) = 8, and off by at most (D + 1) 2^-24 of it, 2.4e-6; a weight by as much, and
 * by what exp is off, for which a relative 2^-22 is allowed; this stands above and below the fraction, where up to 12
 * sums are rounded too. Times the largest value, 2: 2 (2 (2.4e-6 + 2.4e-7) + 12 * 6e-8) = 1.2e-5, below 2^-16. */
#define TOLERANCE 0x1p-16f

/* Tokens [capacity, 2, D], blocks [ceil(capacity / B), 2, D] and the newest block as it was [2, D], as floats. */
#define CACHE_FLOATS (2 * D * (T + T / BLOCK + 1))

static int checksum_is_right(void)
{
    static const uint8_t digits[] = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
    return wdt_crc32(0, digits, sizeof digits) == 0xCBF43926u; /* the check value of this CRC's definition */
}

static int attention_is_right(unsigned form)
{
    float memory[CACHE_FLOATS], q[HQ * D], k[D], v[D], out[HQ * D];
    const wdt_cache_config config = {.capacity = T, .form = form};
    wdt_cache cache;
    if (wdt_cache_bytes(&head, &config) > sizeof memory || wdt_cache_init(&cache, &head, &config, memory) != WDT_OK) {
        return 0;
    }
    for (int t = 0; t < T; t++) {
        for (int n = 0; n < HQ * D; n++) {
            q[n] = query(t, n);
        }
        for (int n = 0; n < D; n++) {
            k[n] = key(t, n);
            v[n] = value(t, n);
        }
        if (wdt_step(&head, &cache, q, k, v, out) != WDT_OK) {
            return 0;
        }
        for (int n = 0; n < HQ * D; n++) {
            if (!(fabsf(out[n] - expected[t][n]) <= TOLERANCE)) { /* nor NaN */
                return 0;
            }
        }
    }
    return 1;
}

/* Numbers through a float16 cache and back: the largest, the smallest, a tie to even, what is no binary fraction; and
 * one that has no float16 is refused. */
static int float16_is_right(void)
{
    static const float in[2][D] = {{65504.0f, 0x1p-24f, 2049.0f, 1.0f / 3.0f}, {-65519.0f, 0x1.8p-24f, 2051.0f, -0.1f}};
    static const float back[2][D] = {{65504.0f, 0x1p-24f, 2048.0f, 0x1.554p-2f},
                                     {-65504.0f, 0x1p-23f, 2052.0f, -0x1.998p-4f}};
    static const float beyond[D] = {65520.0f, 0.0f, 0.0f, 0.0f};
    float memory[CACHE_FLOATS], q[HQ * D] = {0}, out[HQ * D], k[D], v[D];
    const wdt_cache_config config = {.capacity = T, .form = WDT_CACHE_HALF};
    wdt_cache cache;
    if (wdt_cache_init(&cache, &head, &config, memory) != WDT_OK ||
        wdt_step(&head, &cache, q, in[0], in[1], out) != WDT_OK ||
        wdt_step(&head, &cache, q, beyond, in[1], out) != WDT_E_HALF_RANGE) {
        return 0;
    }
    wdt_cache_read(&cache, 0, k, v);
    for (int n = 0; n < D; n++) {
        if (k[n] != back[0][n] || v[n] != back[1][n]) {
            return 0;
        }
    }
    return 1;
}

esp_err_t ruv_temporal_kernel_self_test(void)
{
    return checksum_is_right() && attention_is_right(0) && attention_is_right(WDT_CACHE_HALF) && float16_is_right()
               ? ESP_OK
               : ESP_FAIL;
}
