/* Tensors of weights as a blob has them: float32 or float16 numbers, or int8 ones behind a float32 scale. How long one
 * is, where its numbers lie and what they say; the bytes are in docs/rvne-format.md. */
#ifndef WDT_WEIGHTS_H
#define WDT_WEIGHTS_H

#include "half.h"
#include "wdt_rvne.h"

static inline size_t wdt_weight_bytes(int dtype)
{
    return dtype == WDT_INT8 ? sizeof(int8_t) : wdt_number_bytes(dtype);
}

/* Bytes from a tensor of `count` numbers to the next one, but for the padding of float16 in a record. count < 2^60. */
static inline uint64_t wdt_tensor_bytes(int dtype, uint64_t count)
{
    const uint64_t numbers = count * wdt_weight_bytes(dtype);
    return dtype == WDT_INT8 ? sizeof(float) + (numbers + 3u) / 4u * 4u : numbers;
}

static inline const void *wdt_tensor_numbers(const void *tensor, int dtype)
{
    return (const char *)tensor + (dtype == WDT_INT8 ? sizeof(float) : 0);
}

/* What a number of the tensor is to be multiplied with. An int8 tensor lies at a multiple of 4. */
static inline float wdt_tensor_scale(const void *tensor, int dtype)
{
    return dtype == WDT_INT8 ? *(const float *)tensor : 1.0f;
}

/* Number `at`, without the scale. */
static inline float wdt_weight_at(const void *numbers, int dtype, ptrdiff_t at)
{
    return dtype == WDT_INT8 ? (float)((const int8_t *)numbers)[at] : wdt_number_at(numbers, dtype, at);
}

#endif
