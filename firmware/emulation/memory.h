/* The heap and the stack of an image, both measured. malloc and free are the image's own: a plain bump allocator that
 * counts, so that what a node allocates is seen and nothing of the C library's heap comes in. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>
#include <stdlib.h>

size_t heap_used(void);        /* bytes asked of malloc and not freed */
size_t heap_calls(void);       /* of malloc so far */
void *heap_take(size_t bytes); /* malloc that ends the run when there is no more */
void heap_clear(void);         /* everything is free */

/* Paints the stack below the caller's frame; then says how many bytes of that have been written since. */
void stack_paint(void);
size_t stack_used(void);

#endif
