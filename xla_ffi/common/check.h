// Checks of the C++ tests: a failed one says where and ends the test.
#ifndef EPMC_COMMON_CHECK_H_
#define EPMC_COMMON_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define EPMC_CHECK(condition)                                                        \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);   \
      std::exit(1);                                                                  \
    }                                                                                \
  } while (false)

#endif  // EPMC_COMMON_CHECK_H_
