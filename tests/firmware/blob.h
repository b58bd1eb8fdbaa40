/* A file's bytes where a blob may lie: at a multiple of 8, for the tests that read one. */
#ifndef FIRMWARE_BLOB_H
#define FIRMWARE_BLOB_H

#include <stdint.h>
#include <stdio.h>

#include "check.h"

#define BLOB_MAX (1 << 18)

static inline size_t read_blob(const char *path, uint8_t bytes[BLOB_MAX])
{
    FILE *const file = fopen(path, "rb");
    CHECK(file != NULL);
    const size_t length = fread(bytes, 1, BLOB_MAX, file);
    CHECK(fclose(file) == 0 && length > 0 && length < BLOB_MAX);
    return length;
}

#endif
