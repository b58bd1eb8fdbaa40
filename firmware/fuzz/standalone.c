/* Runs a fuzz target without libFuzzer, so without clang: every file of the corpus, then mutations of them drawn from a
 * fixed seed. Finds less than libFuzzer, which watches what code an input reaches, and the same in every run.
 *
 *     fuzz_packet RUNS SEED FILE...
 */
#include <signal.h>

#include "fuzz.h"

/* Only some targets have one. */
__attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

enum { MOST_FILES = 256, MOST_BYTES = 4096 };

static uint8_t *corpus[MOST_FILES];
static size_t length[MOST_FILES];
static uint64_t state;

static uint32_t draw(size_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) % below);
}

static size_t resize(uint8_t *data, size_t size, size_t max_size)
{
    const size_t at = draw(size + 1), count = 1 + draw(8);
    if (draw(2) && at + count <= size) { /* take bytes out */
        memmove(data + at, data + at + count, size - at - count);
        return size - count;
    }
    if (size + count <= max_size) { /* put bytes in */
        memmove(data + at + count, data + at, size - at);
        memset(data + at, (int)draw(256), count);
        return size + count;
    }
    return size;
}

/* A few changes of a kind that programs are known to stumble over. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    static const uint32_t special[] = {0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000u,
                                       0xFFFFFFFFu, 0x7F800000, 0x7FC00000, 0x3F800000, 0x5368D4A5};
    for (uint32_t changes = 1 + draw(4); changes > 0 && size > 0; changes--) {
        const size_t at = draw(size);
        switch (draw(8)) {
        case 0:
            size = resize(data, size, max_size);
            break;
        case 1:
            data[at] = (uint8_t)draw(256);
            break;
        case 2:
            if (at + 4 <= size) {
                store_u32(data + at, special[draw(sizeof special / sizeof *special)]);
            }
            break;
        case 3:
            if (at + 2 <= size) {
                store_u16(data + at, special[draw(8)]);
            }
            break;
        case 4:
            memmove(data + at, data + draw(size - at) + at, 1);
            break;
        default:
            data[at] ^= (uint8_t)(1u << draw(8));
        }
    }
    return size;
}

static const uint8_t *current;
static size_t current_size;

/* Shows the input that ended the program, for a file of the corpus. */
static void show(int signal_number)
{
    fprintf(stderr, "the input, %zu bytes:\n", current_size);
    for (size_t j = 0; j < current_size; j++) {
        fprintf(stderr, "%02x", current[j]);
    }
    fputc('\n', stderr);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* From a block of exactly its size. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *const exact = block(size);
    memcpy(exact, data, size);
    current = exact;
    current_size = size;
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static size_t read_corpus(char **names, size_t count)
{
    REQUIRE(count >= 1 && count <= MOST_FILES);
    for (size_t n = 0; n < count; n++) {
        FILE *const file = fopen(names[n], "rb");
        REQUIRE(file != NULL);
        corpus[n] = block(MOST_BYTES);
        length[n] = fread(corpus[n], 1, MOST_BYTES, file);
        REQUIRE(!ferror(file));
        fclose(file);
        run(corpus[n], length[n]);
    }
    return count;
}

int main(int count, char **argument)
{
    if (count < 4) {
        fprintf(stderr, "usage: %s RUNS SEED FILE...\n", argument[0]);
        return 2;
    }
    signal(SIGABRT, show);
    const unsigned long long runs = strtoull(argument[1], NULL, 10);
    state = 88172645463325252u + strtoull(argument[2], NULL, 10);
    const size_t files = read_corpus(argument + 3, (size_t)count - 3);
    static uint8_t data[MOST_BYTES];
    for (unsigned long long r = 0; r < runs; r++) {
        const size_t from = draw(files);
        size_t size = length[from];
        memcpy(data, corpus[from], size);
        for (uint32_t rounds = 1 + draw(4); rounds > 0; rounds--) {
            size = LLVMFuzzerCustomMutator != NULL ? LLVMFuzzerCustomMutator(data, size, MOST_BYTES, draw(1u << 31))
                                                   : LLVMFuzzerMutate(data, size, MOST_BYTES);
        }
        run(data, size);
    }
    for (size_t n = 0; n < files; n++) {
        free(corpus[n]);
    }
    printf("%zu files and %llu mutations: no finding\n", files, runs);
    return 0;
}
