// SEALIFT_ADDRESS_SANITIZER and SEALIFT_THREAD_SANITIZER are defined in a build with one of them.
// g++ and clang say so in ways of their own.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define SEALIFT_ADDRESS_SANITIZER
#elif defined(__SANITIZE_THREAD__)
#define SEALIFT_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SEALIFT_ADDRESS_SANITIZER
#elif __has_feature(thread_sanitizer)
#define SEALIFT_THREAD_SANITIZER
#endif
#endif
