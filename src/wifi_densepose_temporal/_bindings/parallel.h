// Threads for one call: started in it, and gone when it returns.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include <nanobind/nanobind.h>

constexpr int MAX_THREADS = 256;
constexpr ptrdiff_t POSITIONS_A_TASK = 256; // fewer are not worth the start of a thread, some 50 us

// The `threads` argument of a function: 1 to MAX_THREADS, or 0 for what is not a whole number of at least 1.
inline int threads_of(nanobind::handle argument) {
    if (!PyLong_CheckExact(argument.ptr())) {
        return 0;
    }
    int overflow;
    const long long number = PyLong_AsLongLongAndOverflow(argument.ptr(), &overflow);
    return overflow ? (overflow > 0) * MAX_THREADS : static_cast<int>(std::clamp<long long>(number, 0, MAX_THREADS));
}

// Into how many tasks to cut so many positions, at most.
inline int useful_tasks(int most, ptrdiff_t positions) {
    return static_cast<int>(std::clamp<ptrdiff_t>(positions / POSITIONS_A_TASK, 1, most));
}

// Runs work(thread) on this thread, which is number 0, and at once on as many more as make up `threads`. Where the
// system gives fewer, those that are there do all of it: work() takes what it does from Tasks. It must not throw.
template <typename Work> void on_threads(int threads, const Work &work) {
    std::vector<std::thread> others;
    try {
        others.reserve(static_cast<size_t>(threads) - 1);
        for (int thread = 1; thread < threads; thread++) {
            others.emplace_back(std::cref(work), thread);
        }
    } catch (const std::exception &) {
    }
    work(0);
    for (std::thread &other : others) {
        other.join();
    }
}

// Pieces of work, each done once, by whichever thread comes first: one that starts late is not waited for.
class Tasks {
    const ptrdiff_t count;
    std::atomic<ptrdiff_t> next{0}, done{0};

  public:
    explicit Tasks(ptrdiff_t count) : count(count) {}

    // Calls task(number) until none is left to begin.
    template <typename Task> void take(const Task &task) {
        for (ptrdiff_t number; (number = next.fetch_add(1)) < count;) {
            task(number);
            if (done.fetch_add(1) + 1 == count) {
                done.notify_all();
            }
        }
    }
    // Returns when all are done.
    void wait() const {
        for (ptrdiff_t finished; (finished = done.load()) < count;) {
            done.wait(finished);
        }
    }
};
