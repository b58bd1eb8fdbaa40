/* Arm's semihosting, which QEMU also offers on RISC-V: one call, by number. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>

uint32_t host_call(uint32_t operation, const void *argument);

#endif
