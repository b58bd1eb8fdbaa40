// One sequence's cache and the memory it lies in.
#pragma once

#include <stdexcept>
#include <string>

#include "bindings.h"

#include "wdt_attention.h"

struct Policy {
    const char *name;
    const wdt_policy *policy;
};

inline const Policy POLICIES[] = {
    {"refuse", &wdt_refuse},
    {"sliding", &wdt_sliding},
    {"heavy-hitter", &wdt_heavy_hitter},
    {"h2o-compact", &wdt_h2o_compact},
};

inline wdt_cache_config cache_config(ptrdiff_t capacity, bool half, const std::string &policy,
                                     ptrdiff_t landmark_blocks) {
    for (const Policy &known : POLICIES) {
        if (policy == known.name) {
            return {capacity, known.policy, landmark_blocks, half ? static_cast<unsigned>(WDT_CACHE_HALF) : 0u};
        }
    }
    throw std::invalid_argument("no policy has this name");
}

struct Cache {
    Busy busy;
    wdt_cache cache{};
    Memory memory;

    Cache(const wdt_head &head, const wdt_cache_config &config)
        : memory(Memory::zeroed(wdt_cache_bytes(&head, &config))) {
        if (wdt_cache_init(&cache, &head, &config, memory.data.get()) != WDT_OK) {
            throw std::invalid_argument("the head is not a valid causal one, or capacity is below 1");
        }
    }
    // What `other` holds, in room for `capacity` tokens.
    Cache(const Cache &other, ptrdiff_t capacity)
        : memory(Memory::zeroed(wdt_cache_copy_bytes(&other.cache, capacity))) {
        wdt_cache_copy(&cache, &other.cache, capacity, memory.data.get());
    }
};
