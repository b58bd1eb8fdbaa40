/* What an image is told to do: a file that the emulator loads to a fixed address, laid out by emulation.py.
 *
 * It stands where a chip has its flash: parts are read in place. Nothing of it is checked but the first word, since it is
 * made for this image by the program that starts it. */
#ifndef INPUT_H
#define INPUT_H

#include <stdint.h>

#define INPUT_MAGIC 0x31455457u /* "WTE1" */
#define INPUT_NUMBERS 32
#define INPUT_PARTS 12

enum { TASK_SELF_TEST = 0, TASK_GOLDEN = 1, TASK_RECORDING = 2, TASK_BENCH = 3 };

typedef struct input_part {
    uint32_t offset, length; /* bytes, from the input's begin; offset is a multiple of 16 */
} input_part;

typedef struct input_file {
    uint32_t magic, task;
    int32_t number[INPUT_NUMBERS];
    input_part part[INPUT_PARTS];
} input_file;

extern const input_file input; /* image.ld */

static inline const void *input_at(int part)
{
    return (const uint8_t *)&input + input.part[part].offset;
}

#endif
