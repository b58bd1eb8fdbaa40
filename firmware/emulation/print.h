/* Lines of text for emulation.py: a word, then integers, bytes in hexadecimal, or floats by their bits. */
#ifndef PRINT_H
#define PRINT_H

#include <stddef.h>
#include <stdint.h>

void print_begin(const char *word);
void print_word(const char *word);
void print_integer(int64_t value);
void print_floats(const float *x, size_t n); /* 8 hexadecimal digits each: exact */
void print_bytes(const uint8_t *bytes, size_t n);
void print_end(void);

/* Ends the run: `what` has answered `code`, which is no success. */
_Noreturn void fail(const char *what, int code);

#endif
