/* The C tests' only tool: a failed CHECK prints its file, line and condition and ends the program with status 1.
 * Not assert(): that one vanishes under NDEBUG. */
#ifndef WDT_CHECK_H
#define WDT_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                               \
    do {                                                                          \
        if (!(cond)) {                                                            \
            fprintf(stderr, "%s:%d: CHECK failed: %s\n", __FILE__, __LINE__, #cond); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

#endif
