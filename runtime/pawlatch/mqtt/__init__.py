"""The door in Home Assistant, and for whoever else speaks MQTT. Only `wire`, and what imports it, needs paho-mqtt."""
