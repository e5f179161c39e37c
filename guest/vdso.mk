# SPDX-License-Identifier: BSD-2-Clause
# The vDSO: a shared object for programs, embedded by kernel/exec/vdso/blob.S.
# Included by the Makefile after OUT, CC are set.
VDSO_DIR = kernel/exec/vdso/image
VDSO_FLAGS = -std=gnu11 -O2 -ffreestanding -fPIC -fvisibility=hidden \
	-mno-mmx -mno-sse -fno-stack-protector -fcf-protection=none \
	-fasynchronous-unwind-tables -fno-builtin \
	-Wall -Wextra -Werror -Wno-unused-function -Ikernel -Iinclude

$(OUT)/vdso.so: $(VDSO_DIR)/vdso.c $(VDSO_DIR)/vdso.ld vdso.mk \
		kernel/arch/arch.h
	@mkdir -p $(@D)
	$(CC) $(VDSO_FLAGS) -c -o $@.o $<
	ld -shared -nostdlib -soname linux-vdso.so.1 --hash-style=both \
	  --build-id=none --eh-frame-hdr -z max-page-size=4096 -z noexecstack \
	  -Bsymbolic --no-undefined -T $(VDSO_DIR)/vdso.ld -o $@.tmp $@.o
	objcopy -S $@.tmp $@
	@rm -f $@.tmp

$(OUT)/kernel/exec/vdso/blob.S.o: $(OUT)/vdso.so
