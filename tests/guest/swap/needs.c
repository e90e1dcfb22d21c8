/*
 * A program that needs memory: it fills some with content that follows from the place alone, and checks every byte,
 * in another random order in each pass. Each pass but the last one gives a page its next content after the check.
 *
 *   needs MIB SEED PASSES [FILE]    with FILE: waits until it exists, when all memory is filled
 *
 * It prints `filled`, then `pass N` after each pass, and for the first words that differ `WRONG ...`. Exit code 0: all
 * was right; 1: bytes were wrong; 2: it could not begin.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, CHUNK = 64, SHOWN = 10 };

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* The first word of a page, and from each word the next one. */
static uint64_t first(uint64_t seed, uint64_t page, uint64_t pass)
{
    return mix(seed + mix(page + mix(pass + 1)));
}

static uint64_t next(uint64_t word)
{
    return word * 6364136223846793005 + 1442695040888963407;
}

static void fill(uint64_t *words, uint64_t word)
{
    for (int at = 0; at < WORDS; at++, word = next(word))
        words[at] = word;
}

/* How many words differ. */
static unsigned long check(const uint64_t *words, uint64_t word, uint64_t page, uint64_t pass, unsigned long before)
{
    unsigned long wrong = 0;
    for (int at = 0; at < WORDS; at++, word = next(word))
        if (words[at] != word && before + wrong++ < SHOWN)
            printf("WRONG page %lu word %d before pass %lu: %016lx instead of %016lx\n", page, at, pass, words[at], word);
    return wrong;
}

int main(int count, char **words)
{
    if (count < 4)
        return 2;
    uint64_t pages = strtoul(words[1], NULL, 10) << 20 >> 12, seed = strtoul(words[2], NULL, 10);
    uint64_t passes = strtoul(words[3], NULL, 10), chunks = pages / CHUNK;
    setvbuf(stdout, NULL, _IONBF, 0);
    uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *order = malloc(chunks * sizeof *order);
    if (memory == MAP_FAILED || !order || !chunks) {
        perror("memory");
        return 2;
    }
    /* Whole huge pages would be swapped in and out as one. */
    madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
    for (uint64_t page = 0; page < chunks * CHUNK; page++)
        fill(memory + page * WORDS, first(seed, page, 0));
    printf("filled\n");
    while (count > 4 && access(words[4], F_OK))
        usleep(100000);

    unsigned long wrong = 0;
    uint64_t random = mix(seed);
    for (uint64_t pass = 1; pass <= passes; pass++) {
        for (uint64_t at = 0; at < chunks; at++)
            order[at] = at;
        for (uint64_t left = chunks; left > 1; left--) {
            uint64_t other = (random = mix(random + left)) % left;
            uint32_t last = order[left - 1];
            order[left - 1] = order[other];
            order[other] = last;
        }
        for (uint64_t at = 0; at < chunks * CHUNK; at++) {
            uint64_t page = (uint64_t)order[at / CHUNK] * CHUNK + at % CHUNK;
            wrong += check(memory + page * WORDS, first(seed, page, pass - 1), page, pass, wrong);
            if (pass < passes)
                fill(memory + page * WORDS, first(seed, page, pass));
        }
        printf("pass %lu\n", pass);
    }
    if (wrong)
        printf("WRONG: %lu words\n", wrong);
    return wrong != 0;
}
