/* What an image asks of the emulator: a line of text, an end, and how many instructions have run.
 *
 * One file a processor implements it (host_riscv.S, host_arm.c, host_xtensa.S), and holds its start-up code: stack,
 * floating-point unit, zeroed .bss, and a trap that ends the run, so that an instruction the chip does not have is an
 * error and never a hang. On RISC-V and Arm, text and end go through Arm's semihosting (semihosting.c). */
#ifndef HOST_H
#define HOST_H

#include <stddef.h>
#include <stdint.h>

/* Writes `length` bytes of text, which a zero byte follows. */
void host_write(const char *text, size_t length);

/* Ends the run with this exit code. */
_Noreturn void host_exit(int code);

/* Instructions since some moment, in units of HOST_UNIT of them, modulo 2^HOST_BITS: what the processor's counter gives
 * under -icount shift=0, where an instruction takes a nanosecond. */
uint32_t host_counter(void);

#if defined(__riscv)
#define HOST_UNIT 1u /* minstret, exact */
#define HOST_BITS 32
#elif defined(__arm__)
#define HOST_UNIT 40u /* SysTick at the machine's 25 MHz */
#define HOST_BITS 24
#elif defined(__xtensa__)
#define HOST_UNIT 25u /* CCOUNT at the processor's 40 MHz */
#define HOST_BITS 32
#endif

/* For the start-up code: runs the image. */
_Noreturn void image_main(void);

/* For a trap: writes the cause and where it was, and ends the run. */
_Noreturn void image_trapped(uint32_t cause, uint32_t address);

#endif
