/* What the fuzz targets share. A target is one function over hostile bytes. Whoever calls it, libFuzzer or
 * standalone.c, gives it a block of exactly that many, so that the sanitizers see a byte that is read behind them. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libFuzzer's names. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* What has to hold for every input: ends the program where it does not, as a sanitizer would. */
#define REQUIRE(condition)                                                                       \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);       \
            abort();                                                                             \
        }                                                                                        \
    } while (0)

/* 1 if none is NaN or infinite, by bits: the compiler may not reason about them. */
static inline int all_finite(const float *x, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        uint32_t bits;
        memcpy(&bits, &x[j], sizeof bits);
        if ((bits & 0x7F800000u) == 0x7F800000u) {
            return 0;
        }
    }
    return 1;
}

static inline void *block(size_t bytes)
{
    void *const memory = malloc(bytes ? bytes : 1);
    REQUIRE(memory != NULL);
    return memory;
}

static inline void store_u16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void store_u32(uint8_t *at, uint32_t value)
{
    store_u16(at, value);
    store_u16(at + 2, value >> 16);
}

static inline uint32_t load_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Bytes taken one after the other; zeros behind the end. */
typedef struct input {
    const uint8_t *at;
    size_t left;
} input;

static inline void take(input *from, void *into, size_t count)
{
    const size_t there = count < from->left ? count : from->left;
    memset(into, 0, count);
    if (there > 0) { /* an empty input's pointer may be NULL */
        memcpy(into, from->at, there);
        from->at += there;
        from->left -= there;
    }
}

static inline uint32_t take_number(input *from, size_t bytes)
{
    uint8_t at[4] = {0};
    take(from, at, bytes);
    return load_u32(at);
}

static inline float take_float(input *from)
{
    const uint32_t bits = take_number(from, 4);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
