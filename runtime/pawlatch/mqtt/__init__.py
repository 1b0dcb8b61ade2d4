"""The door in Home Assistant, and for whoever else speaks MQTT. Only `link`, and what imports it, needs paho-mqtt."""
