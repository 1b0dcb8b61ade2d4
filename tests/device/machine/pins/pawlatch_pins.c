// SPDX-License-Identifier: GPL-2.0
/*
 * 28 GPIO lines without a chip behind them, which behave as a Raspberry Pi's do where the kernel's gpio-sim does not: an output
 * that its process lets go stays driven as it was. Each change of a line's level is a line on the console as it happens.
 */
#include <linux/bitmap.h>
#include <linux/gpio/driver.h>
#include <linux/module.h>
#include <linux/spinlock.h>

#define LINES 28

static DEFINE_SPINLOCK(pins_lock);
static DECLARE_BITMAP(pins_output, LINES);
static DECLARE_BITMAP(pins_driven, LINES);
static DECLARE_BITMAP(pins_pulled, LINES);
static DECLARE_BITMAP(pins_level, LINES);

/* What a relay at the line sees: what drives it, else what pulls it. */
static void pins_settle(unsigned int line)
{
	bool is_output = test_bit(line, pins_output);
	bool level = test_bit(line, is_output ? pins_driven : pins_pulled);

	if (level == test_bit(line, pins_level))
		return;
	assign_bit(line, pins_level, level);
	pr_info("pins: %u %s\n", line, level ? "high" : "low");
}

static int pins_get_direction(struct gpio_chip *chip, unsigned int line)
{
	return test_bit(line, pins_output) ? GPIO_LINE_DIRECTION_OUT : GPIO_LINE_DIRECTION_IN;
}

static int pins_get(struct gpio_chip *chip, unsigned int line)
{
	return test_bit(line, pins_level);
}

static void pins_set(struct gpio_chip *chip, unsigned int line, int value)
{
	unsigned long flags;

	spin_lock_irqsave(&pins_lock, flags);
	assign_bit(line, pins_driven, value);
	pins_settle(line);
	spin_unlock_irqrestore(&pins_lock, flags);
}

static int pins_direction_input(struct gpio_chip *chip, unsigned int line)
{
	unsigned long flags;

	spin_lock_irqsave(&pins_lock, flags);
	clear_bit(line, pins_output);
	pins_settle(line);
	spin_unlock_irqrestore(&pins_lock, flags);
	return 0;
}

static int pins_direction_output(struct gpio_chip *chip, unsigned int line, int value)
{
	unsigned long flags;

	spin_lock_irqsave(&pins_lock, flags);
	assign_bit(line, pins_driven, value);
	set_bit(line, pins_output);
	pins_settle(line);
	spin_unlock_irqrestore(&pins_lock, flags);
	return 0;
}

static int pins_set_config(struct gpio_chip *chip, unsigned int line, unsigned long config)
{
	unsigned long flags;
	enum pin_config_param bias = pinconf_to_config_param(config);

	if (bias != PIN_CONFIG_BIAS_PULL_UP && bias != PIN_CONFIG_BIAS_PULL_DOWN && bias != PIN_CONFIG_BIAS_DISABLE)
		return -ENOTSUPP;
	spin_lock_irqsave(&pins_lock, flags);
	assign_bit(line, pins_pulled, bias == PIN_CONFIG_BIAS_PULL_UP);
	pins_settle(line);
	spin_unlock_irqrestore(&pins_lock, flags);
	return 0;
}

static struct gpio_chip pins_chip = {
	.label = "pawlatch-pins",
	.owner = THIS_MODULE,
	.base = -1,
	.ngpio = LINES,
	.get_direction = pins_get_direction,
	.get = pins_get,
	.set = pins_set,
	.direction_input = pins_direction_input,
	.direction_output = pins_direction_output,
	.set_config = pins_set_config,
	/* no .free: what is let go stays as it was */
};

static int __init pins_init(void)
{
	unsigned int line;

	for (line = 0; line < 9; line++) /* a BCM283x pulls 0 to 8 up from power-on, and the others down */
		__set_bit(line, pins_pulled);
	bitmap_copy(pins_level, pins_pulled, LINES);
	pr_info("pins: all as from power-on\n");
	return gpiochip_add_data(&pins_chip, NULL);
}

static void __exit pins_exit(void)
{
	gpiochip_remove(&pins_chip);
}

module_init(pins_init);
module_exit(pins_exit);
MODULE_DESCRIPTION("GPIO lines that stay driven when they are let go");
MODULE_LICENSE("GPL");
