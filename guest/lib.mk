# SPDX-License-Identifier: BSD-2-Clause
# libcapstan.so and its headers, in build/sdk as they are installed. No libc is
# linked: the program's serves, whichever it is. Included by the Makefile.
SDK = $(OUT)/sdk
SDK_HEADERS = $(wildcard include/capstan/*.h)
SDK_SRC = $(sort $(wildcard lib/*.c))

$(SDK)/lib/libcapstan.so.0: $(SDK_SRC) lib/internal.h $(SDK_HEADERS) \
    $(wildcard include/*.h) lib.mk
	@mkdir -p $(SDK)/lib $(SDK)/include/capstan
	cp $(SDK_HEADERS) $(SDK)/include/capstan/
	$(CC) -std=gnu11 -O2 -g0 -fPIC -shared -fvisibility=hidden -Wall -Wextra \
	  -Werror -Iinclude -fno-stack-protector -U_FORTIFY_SOURCE -nostdlib -Wl,-soname,libcapstan.so.0 \
	  -Wl,--build-id=none -Wl,-z,noexecstack -o $@.tmp $(SDK_SRC)
	ln -sf libcapstan.so.0 $(SDK)/lib/libcapstan.so
	mv $@.tmp $@
