// Threads for one call: started in it, and gone when it returns.
#pragma once

#include <algorithm>
#include <barrier>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

#include <nanobind/nanobind.h>

constexpr int MAX_THREADS = 256;
constexpr ptrdiff_t POSITIONS_A_THREAD = 64; // fewer take less time than a thread takes to start

// The `threads` argument of a function: 1 to MAX_THREADS, or 0 for what is not a whole number of at least 1.
inline int threads_of(nanobind::handle argument) {
    if (!PyLong_CheckExact(argument.ptr())) {
        return 0;
    }
    int overflow;
    const long long number = PyLong_AsLongLongAndOverflow(argument.ptr(), &overflow);
    return overflow ? (overflow > 0) * MAX_THREADS : static_cast<int>(std::clamp<long long>(number, 0, MAX_THREADS));
}

// How many of these threads are worth starting for so many positions.
inline int useful_threads(int threads, ptrdiff_t positions) {
    return static_cast<int>(std::clamp<ptrdiff_t>(positions / POSITIONS_A_THREAD, 1, threads));
}

// Runs work(thread, threads, together) at once on up to `wanted` threads, this one among them. `threads` is how many
// the system gave, and `together` a barrier of as many. work() must not throw.
template <typename Work> void on_threads(int wanted, const Work &work) {
    std::barrier<> together(wanted);
    int threads = 1;
    const auto run = [&](int thread) {
        together.arrive_and_wait(); // from here on `threads` stands
        work(thread, threads, together);
    };
    std::vector<std::thread> others;
    try {
        others.reserve(static_cast<size_t>(wanted) - 1);
        for (; threads < wanted; threads++) {
            others.emplace_back(run, threads);
        }
    } catch (const std::exception &) {
        for (int missing = threads; missing < wanted; missing++) {
            together.arrive_and_drop();
        }
    }
    run(0);
    for (std::thread &other : others) {
        other.join();
    }
}
