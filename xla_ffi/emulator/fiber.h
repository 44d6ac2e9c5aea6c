// Fibers: one stack per emulated CUDA thread, switched by hand.
#ifndef EPMC_EMULATOR_FIBER_H_
#define EPMC_EMULATOR_FIBER_H_

#include <cstddef>
#include <cstring>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "xla_ffi/emulator/races.h"

#if defined(__SANITIZE_ADDRESS__)
#define EPMC_EMULATOR_ASAN 1
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
void __asan_unpoison_memory_region(const volatile void* begin, size_t size);
}
#endif

namespace epmc::emulator {

struct Fiber {
  char* stack = nullptr;  // nullptr: the stack of the host thread, learnt at the first switch
  size_t stack_nbytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* identity = nullptr;    // ThreadSanitizer's
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
};

#if defined(__x86_64__)

// Saves what a callee must preserve, and returns on the other stack. swapcontext would
// do two system calls for it: 300 ns instead of 3, at every shuffle of every lane.
extern "C" void epmc_emulator_switch(void** from, void* to);
asm(R"(.pushsection .text.epmc_emulator_switch,"axG",@progbits,epmc_emulator_switch,comdat
.weak epmc_emulator_switch
.hidden epmc_emulator_switch
.type epmc_emulator_switch,@function
epmc_emulator_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi); movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret
.size epmc_emulator_switch,.-epmc_emulator_switch
.popsection)");

inline void StartAt(Fiber& fiber, void (*entry)()) {
  // Two words below the end, so that `ret` enters with the alignment that a call has.
  void** top = reinterpret_cast<void**>(fiber.stack + fiber.stack_nbytes) - 2;
  *top = reinterpret_cast<void*>(entry);
  constexpr int kSavedRegisters = 6;
  fiber.stack_pointer = top - kSavedRegisters;
  memset(fiber.stack_pointer, 0, kSavedRegisters * sizeof(void*));
}

inline void SwitchStacks(Fiber& from, Fiber& to) {
  epmc_emulator_switch(&from.stack_pointer, to.stack_pointer);
}

#else

inline void StartAt(Fiber& fiber, void (*entry)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.stack_nbytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}

inline void SwitchStacks(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

#endif

// The first thing that runs on a stack after a switch to it. `host` learns its own stack.
inline void Arrived(Fiber& self, Fiber& host) {
#ifdef EPMC_EMULATOR_ASAN
  const void* bottom = nullptr;
  size_t nbytes = 0;
  __sanitizer_finish_switch_fiber(self.fake_stack, &bottom, &nbytes);
  if (host.stack_nbytes == 0) {
    host.stack = static_cast<char*>(const_cast<void*>(bottom));
    host.stack_nbytes = nbytes;
  }
#else
  (void)self;
  (void)host;
#endif
}

// `from` never runs again if `is_last`.
EPMC_UNINSTRUMENTED inline void Switch(Fiber& from, Fiber& to, Fiber& host, bool is_last) {
#ifdef EPMC_EMULATOR_ASAN
  __sanitizer_start_switch_fiber(is_last ? nullptr : &from.fake_stack, to.stack,
                                 to.stack_nbytes);
#else
  (void)is_last;
#endif
  Become(to.identity);
  SwitchStacks(from, to);
  Arrived(from, host);
}

}  // namespace epmc::emulator

#endif  // EPMC_EMULATOR_FIBER_H_
