/* What an image can be told to do; each prints its results. */
#ifndef TASKS_H
#define TASKS_H

void self_test(void);
void golden(void);    /* one head over given q, k, v: whole window, step by step, and with a float16 cache */
void recording(void); /* packets or frames through the feature chain and the C ABI */
void bench(void);     /* instructions, stack and heap of each case */

#endif
