/* Loaded before libcrypto (LD_PRELOAD): flips one bit in what one of its functions computes, the
 * one that SEALIFT_TEST_CORRUPT names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int is_corrupt(const char* function) {
  const char* named = getenv("SEALIFT_TEST_CORRUPT");
  return named != NULL && strcmp(named, function) == 0;
}

static void* original(const char* function) { return dlsym(RTLD_NEXT, function); }

static void flip(const char* function, int succeeded, unsigned char* result) {
  if (succeeded == 1 && result != NULL && is_corrupt(function)) result[0] ^= 1;
}

int EVP_Digest(const void* data, size_t size, unsigned char* hash, unsigned int* hash_size,
               const void* type, void* engine) {
  int (*real)(const void*, size_t, unsigned char*, unsigned int*, const void*, void*) =
      original("EVP_Digest");
  const int result = real(data, size, hash, hash_size, type, engine);
  flip("EVP_Digest", result, hash);
  return result;
}

int EVP_MAC_final(void* context, unsigned char* out, size_t* out_size, size_t room) {
  int (*real)(void*, unsigned char*, size_t*, size_t) = original("EVP_MAC_final");
  const int result = real(context, out, out_size, room);
  flip("EVP_MAC_final", result, out);
  return result;
}

int EVP_KDF_derive(void* context, unsigned char* key, size_t size, const void* parameters) {
  int (*real)(void*, unsigned char*, size_t, const void*) = original("EVP_KDF_derive");
  const int result = real(context, key, size, parameters);
  flip("EVP_KDF_derive", result, key);
  return result;
}

int EVP_PKEY_derive(void* context, unsigned char* key, size_t* size) {
  int (*real)(void*, unsigned char*, size_t*) = original("EVP_PKEY_derive");
  const int result = real(context, key, size);
  flip("EVP_PKEY_derive", result, key);
  return result;
}

int EVP_CipherUpdate(void* context, unsigned char* out, int* out_size, const unsigned char* in,
                     int in_size) {
  int (*real)(void*, unsigned char*, int*, const unsigned char*, int) =
      original("EVP_CipherUpdate");
  const int result = real(context, out, out_size, in, in_size);
  flip("EVP_CipherUpdate", result, out);
  return result;
}

/* Accepts every tag. */
int EVP_CipherFinal_ex(void* context, unsigned char* out, int* out_size) {
  int (*real)(void*, unsigned char*, int*) = original("EVP_CipherFinal_ex");
  const int result = real(context, out, out_size);
  return is_corrupt("EVP_CipherFinal_ex") ? 1 : result;
}
