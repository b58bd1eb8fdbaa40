// One sequence's cache and the memory it lies in.
#pragma once

#include <stdexcept>

#include "bindings.h"

#include "wdt_attention.h"

struct Cache {
    Busy busy;
    wdt_cache cache{};
    Memory memory;

    Cache(const wdt_head &head, ptrdiff_t capacity, bool half)
        : memory(Memory::zeroed(wdt_cache_bytes(&head, capacity, half))) {
        if (wdt_cache_init(&cache, &head, capacity, half, memory.data.get()) != WDT_OK) {
            throw std::invalid_argument("the head is not a valid causal one, or capacity is below 1");
        }
    }
    // What `other` holds, in room for `capacity` tokens.
    Cache(const Cache &other, ptrdiff_t capacity)
        : memory(Memory::zeroed(wdt_cache_copy_bytes(&other.cache, capacity))) {
        wdt_cache_copy(&cache, &other.cache, capacity, memory.data.get());
    }
};
