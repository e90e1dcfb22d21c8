/* Content and its hash; tests/guest/src/content.rs has the same. */
#include "verbs.h"

static uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void content_fill(unsigned char *at, size_t len, uint64_t seed) {
  uint64_t word = 0;
  for (size_t i = 0; i < len; i++) {
    if (i % 8 == 0)
      word = mix(seed + (i / 8 + 1) * 0x9E3779B97F4A7C15u);
    at[i] = (unsigned char)(word >> (8 * (i % 8)));
  }
}

uint64_t content_hash(const unsigned char *at, size_t len) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < len; i++)
    hash = (hash ^ at[i]) * 0x100000001B3u;
  return hash;
}
