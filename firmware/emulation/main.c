/* An image runs the one task that its input names, says that it came to its end, and ends. */
#include "host.h"
#include "input.h"
#include "print.h"
#include "ruv_temporal.h"
#include "tasks.h"
#include "wdt_kernels.h"

void self_test(void)
{
    print_begin("self_test");
    print_integer(ruv_temporal_kernel_self_test());
    print_end();
}

/* The kernels that the input names in its last part, else those that the build takes by itself. */
static void choose_kernels(void)
{
    if (input.part[INPUT_PARTS - 1].length &&
        wdt_use_instruction_set((const char *)input_at(INPUT_PARTS - 1)) != WDT_OK) {
        fail("no kernels of this name", 0);
    }
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    const int n = wdt_instruction_sets(names);
    print_begin("kernels");
    for (int i = 0; i < n; i++) {
        print_word(names[i]);
    }
    print_end();
}

_Noreturn void image_main(void)
{
    void (*const tasks[])(void) = {self_test, golden, recording, bench};
    if (input.magic != INPUT_MAGIC || input.task >= sizeof tasks / sizeof *tasks) {
        fail("no input", (int)input.task);
    }
    choose_kernels();
    tasks[input.task]();
    print_begin("done");
    print_end();
    host_exit(0);
}

_Noreturn void image_trapped(uint32_t cause, uint32_t address)
{
    print_begin("trapped");
    print_integer(cause);
    print_integer(address);
    print_end();
    host_exit(1);
}
