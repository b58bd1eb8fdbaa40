/* RISC-V, machine mode: start-up, trap, semihosting call and counter. */
    .option arch, +zicsr

    .section .vectors, "ax"
    .globl start
start:
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, stack_top
    la t0, trap
    csrw mtvec, t0
#ifdef __riscv_flen
    li t0, 0x2000 /* mstatus.FS: initial */
    csrs mstatus, t0
#endif
    la t0, bss_begin
    la t1, bss_end
1:  bgeu t0, t1, 2f
    sw zero, 0(t0)
    addi t0, t0, 4
    j 1b
2:  j image_main

    .balign 4
trap:
    csrr a0, mcause
    csrr a1, mepc
    la sp, stack_top
    j image_trapped

/* uint32_t host_call(uint32_t operation, const void *argument): three instructions that QEMU knows as one. They are
 * uncompressed and lie on one page. */
    .text
    .globl host_call
    .balign 16
    .option push
    .option norvc
host_call:
    slli zero, zero, 0x1f
    ebreak
    srai zero, zero, 7
    ret
    .option pop

    .globl host_counter
host_counter:
    csrr a0, minstret
    ret
