/* A line is collected, and written when it or the buffer is full: a call of the emulator costs more than its text. */
#include "print.h"

#include <string.h>

#include "host.h"

static char buffer[1024];
static size_t used;

static void flush(void)
{
    buffer[used] = 0;
    host_write(buffer, used);
    used = 0;
}

static void put(char letter)
{
    if (used == sizeof buffer - 1) {
        flush();
    }
    buffer[used++] = letter;
}

static void put_hex(uint32_t value, int digits)
{
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) {
        put("0123456789abcdef"[value >> shift & 15u]);
    }
}

void print_begin(const char *word)
{
    while (*word) {
        put(*word++);
    }
}

void print_word(const char *word)
{
    put(' ');
    print_begin(word);
}

void print_integer(int64_t value)
{
    char digits[20];
    int n = 0;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[n++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    put(' ');
    if (value < 0) {
        put('-');
    }
    while (n) {
        put(digits[--n]);
    }
}

void print_floats(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        put(' ');
        put_hex(bits, 8);
    }
}

void print_bytes(const uint8_t *bytes, size_t n)
{
    put(' ');
    for (size_t i = 0; i < n; i++) {
        put_hex(bytes[i], 2);
    }
}

void print_end(void)
{
    put('\n');
    flush();
}

_Noreturn void fail(const char *what, int code)
{
    print_begin("failed");
    print_integer(code);
    print_word(what);
    print_end();
    host_exit(1);
}
