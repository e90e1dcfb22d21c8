/* Content and its hash; tests/guest/src/content.rs has the same. */
#include "verbs.h"

#include <string.h>

static uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void content_fill(unsigned char *at, size_t len, uint64_t seed) {
  for (size_t i = 0; i < len; i += 8) {
    uint64_t word = mix(seed + (i / 8 + 1) * 0x9E3779B97F4A7C15u);
    memcpy(at + i, &word, len - i < 8 ? len - i : 8);
  }
}

uint64_t content_hash(const unsigned char *at, size_t len) {
  uint64_t hash = len;
  for (size_t i = 0; i < len; i += 8) {
    uint64_t word = 0;
    memcpy(&word, at + i, len - i < 8 ? len - i : 8);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  return hash;
}
