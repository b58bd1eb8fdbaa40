/* Xtensa, call0 ABI, as the simulator `sim` runs it: start-up, trap, text, end and counter. */
#define SYS_EXIT 1
#define SYS_WRITE 4
#define STANDARD_OUTPUT 1

    .section .vectors, "ax"
    j start /* the image lies at the reset vector */
    .literal_position

/* Exceptions enter here: at 0x30 those of the kernel's mode, at 0x50 the user's, at 0x70 one within another. */
    .balign 1024
vector_base:
    .org vector_base + 0x30
    j trap
    .org vector_base + 0x50
    j trap
    .org vector_base + 0x70
    j trap
    .org vector_base + 0x80

    .globl start
    .balign 4
start:
    movi a2, vector_base
    wsr.vecbase a2
    movi a2, 0x20 /* no exception under way, no interrupts below level 0, user's vectors */
    wsr.ps a2
    rsync
    movi a1, stack_top
    movi a2, bss_begin
    movi a3, bss_end
    movi a4, 0
1:  bgeu a2, a3, 2f
    s32i a4, a2, 0
    addi a2, a2, 4
    j 1b
2:  call0 image_main

    .balign 4
trap:
    rsr.exccause a2
    rsr.epc1 a3
    movi a1, stack_top
    call0 image_trapped

/* void host_write(const char *text, size_t length) */
    .text
    .literal_position
    .globl host_write
    .balign 4
host_write:
    mov a5, a3
    mov a4, a2
    movi a3, STANDARD_OUTPUT
    movi a2, SYS_WRITE
    simcall
    ret

/* void host_exit(int code) */
    .globl host_exit
    .balign 4
host_exit:
    mov a3, a2
    movi a2, SYS_EXIT
    simcall
    j host_exit

    .globl host_counter
    .balign 4
host_counter:
    rsr.ccount a2
    ret
